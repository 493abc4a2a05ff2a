-- What the operations below share. KEYS[1] is 'prefix:{family}:'; every key that is touched begins with it, so a
-- cluster finds them all in one place. ARGV[1] is the tag of the conversation.
--
--   c:<tag>      hash    a conversation: its position and summary
--   at           string  in the place of a fork's own tag: the family where it really is
--   members      set     the tags of the conversations of this family
--   next         string  the counter for segments, heads and annotations
--   segments     set     the numbers of the segments
--   s:<n>        hash    a segment: owner (an incarnation), parent, start, bound, base
--   t:<n>        list    its turns from index base on: '<length of the id> <id><document>'
--   ids          hash    id of a turn -> ';'-joined '<segment> <index> <version> <digest>'
--   a:<n>        zset    its annotations about turns, by the turn's index: '<number> <version> <length> <name><document>'
--   n:<n>        set     the names of its annotations about no turn
--   m:<n>:<name> zset    these, by position: '<version> <number> <document>', the numbers padded
--   h:<n>        hash    a head document
--   l:<tag>      hash    a lease: token, expires
local P, TAG = KEYS[1], ARGV[1]
local UNBOUND = 4611686018427387904

local function num(value)
  return tonumber(value)
end

local function int(value)
  return string.format('%.0f', value)
end

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function conversation(tag)
  local flat = redis.call('HGETALL', P .. 'c:' .. tag)
  if #flat == 0 then
    return nil
  end
  local c = { tag = tag }
  for place = 1, #flat, 2 do
    c[flat[place]] = flat[place + 1]
  end
  for _, name in ipairs({ 'version', 'segment', 'total', 'first', 'open', 'bound', 'head' }) do
    c[name] = num(c[name])
  end
  return c
end

-- Where the conversation is instead, if it has moved from its own tag's place, which must be this one.
local function elsewhere()
  return string.find(P, '{' .. TAG .. '}', 1, true) and redis.call('GET', P .. 'at')
end

local function absent()
  local family = elsewhere()
  if family then
    return { 'moved', family }
  end
  return { 'missing' }
end

local function find_conversation()
  local c = conversation(TAG)
  -- The tag is a digest: what counts is that scope and key are those that were asked for.
  if c and (c.scope ~= ARGV[2] or c.key ~= ARGV[3]) then
    return nil
  end
  return c
end

local function revision(c)
  return c.incarnation .. '.' .. int(c.version)
end

local function limit_of(c)
  if c.open == 1 then
    return c.version
  end
  return c.bound
end

-- The spans of a line, newest first, down to the one which begins at `lowest` or before.
local function line(c, lowest)
  local spans, segment, stop, bound = {}, c.segment, c.total, c.bound
  if c.open == 1 then
    bound = UNBOUND
  end
  while segment do
    local row = redis.call('HMGET', P .. 's:' .. int(segment), 'owner', 'parent', 'start', 'bound', 'base')
    if not row[3] then
      error('segment ' .. int(segment) .. ' of a conversation is missing')
    end
    local start = num(row[3])
    spans[#spans + 1] = { segment = segment, owner = row[1], start = start, stop = stop, bound = bound, base = num(row[5]) }
    if start <= lowest then
      break
    end
    segment, stop, bound = num(row[2]), math.min(stop, start), num(row[4])
  end
  return spans
end

local function split_turn(element)
  local space = string.find(element, ' ', 1, true)
  local length = num(string.sub(element, 1, space - 1))
  return string.sub(element, space + 1, space + length), string.sub(element, space + length + 1)
end

-- A turn of the line, by its id: index, version as the conversation counts, digest.
local function find(c, id)
  local entry = redis.call('HGET', P .. 'ids', id)
  if not entry then
    return nil
  end
  local places, lowest = {}, UNBOUND
  for segment, index, version, digest in string.gmatch(entry, '(%d+) (%d+) (%d+) (%x+)') do
    places[num(segment)] = { index = num(index), version = num(version), digest = digest }
    lowest = math.min(lowest, num(index))
  end
  for _, span in ipairs(line(c, lowest)) do
    local found = places[span.segment]
    if found and found.index >= c.first and found.index < span.stop then
      if span.owner ~= c.incarnation then
        found.version = 1
      end
      return found
    end
  end
  return nil
end

-- Index of the first and version of the last of these turns, if they stand on the line.
local function standing(c, turns)
  local start, version
  for place, turn in ipairs(turns) do
    local found = find(c, turn.id)
    if not found or found.digest ~= turn.digest or (start and found.index ~= start + place - 1) then
      return nil
    end
    start, version = start or found.index, found.version
  end
  return start, version
end

-- The annotations about no turn that count at a position, oldest first.
local function standing_notes(c, at)
  local spans = line(c, at)
  local span, notes = spans[#spans], {}
  for _, name in ipairs(redis.call('SMEMBERS', P .. 'n:' .. int(span.segment))) do
    local key, offset = P .. 'm:' .. int(span.segment) .. ':' .. name, 0
    while true do
      local row = redis.call('ZREVRANGEBYSCORE', key, int(at), '-inf', 'LIMIT', offset, 1)
      if #row == 0 then
        break
      end
      if num(string.sub(row[1], 1, 16)) <= span.bound then
        local order = string.sub(row[1], 18, 33)
        notes[#notes + 1] = { name = name, text = string.sub(row[1], 35), order = order }
        break
      end
      offset = offset + 1
    end
  end
  table.sort(notes, function(one, other) return one.order < other.order end)
  return notes
end

local function write_turn(segment, index, version, turn)
  local entry = int(segment) .. ' ' .. int(index) .. ' ' .. int(version) .. ' ' .. turn.digest
  local before = redis.call('HGET', P .. 'ids', turn.id)
  if before then
    entry = before .. ';' .. entry
  end
  redis.call('HSET', P .. 'ids', turn.id, entry)
  redis.call('RPUSH', P .. 't:' .. int(segment), #turn.id .. ' ' .. turn.id .. turn.text)
end

-- `about` is the index of a turn, or nil.
local function write_note(segment, at, version, note, about)
  local number = redis.call('INCR', P .. 'next')
  if about then
    local member = int(number) .. ' ' .. int(version) .. ' ' .. #note.name .. ' ' .. note.name .. note.text
    redis.call('ZADD', P .. 'a:' .. int(segment), int(about), member)
  else
    redis.call('SADD', P .. 'n:' .. int(segment), note.name)
    local member = string.format('%016.0f %016.0f ', version, number) .. note.text
    redis.call('ZADD', P .. 'm:' .. int(segment) .. ':' .. note.name, int(at), member)
  end
end

local function new_segment(owner, parent, start, bound)
  local number = redis.call('INCR', P .. 'next')
  local key = P .. 's:' .. int(number)
  redis.call('HSET', key, 'owner', owner, 'start', int(start), 'bound', int(bound), 'base', int(start))
  if parent then
    redis.call('HSET', key, 'parent', int(parent))
  end
  redis.call('SADD', P .. 'segments', int(number))
  return number
end

local function new_head(digest, text)
  local number = redis.call('INCR', P .. 'next')
  redis.call('HSET', P .. 'h:' .. int(number), 'digest', digest, 'data', text)
  return number
end

-- Turns and annotations from ARGV[place] on: '<n>', (id, digest, text) * n, '<n>', (name, turn or '-', text) * n.
-- A turn's id is preceded by '+', so that no id is mistaken for none.
local function read_rows(place)
  local turns, notes = {}, {}
  local count = num(ARGV[place])
  for _ = 1, count do
    turns[#turns + 1] = { id = ARGV[place + 1], digest = ARGV[place + 2], text = ARGV[place + 3] }
    place = place + 3
  end
  place = place + 1
  for _ = 1, num(ARGV[place]) do
    local turn = ARGV[place + 2]
    notes[#notes + 1] = { name = ARGV[place + 1], text = ARGV[place + 3] }
    if turn ~= '-' then
      notes[#notes].turn = string.sub(turn, 2)
    end
    place = place + 3
  end
  return turns, notes
end

local function write_rows(segment, start, version, turns, notes, abouts)
  for place, turn in ipairs(turns) do
    write_turn(segment, start + place - 1, version, turn)
  end
  for place, note in ipairs(notes) do
    write_note(segment, start + #turns, version, note, abouts[place])
  end
end

local function indices(turns, start)
  local known = {}
  for place, turn in ipairs(turns) do
    known[turn.id] = start + place - 1
  end
  return known
end

-- The turns of a line from index start up to stop, with their annotations: flat (index, element, n, (name, text) * n).
local function window(c, start, stop)
  local flat = {}
  if start >= stop then
    return flat
  end
  local spans, notes = line(c, start), {}
  for place = #spans, 1, -1 do
    local span = spans[place]
    local upper = math.min(span.stop, stop) - 1
    local rows = redis.call('ZRANGEBYSCORE', P .. 'a:' .. int(span.segment), int(start), int(upper), 'WITHSCORES')
    local ordered = {}
    for row = 1, #rows, 2 do
      local number, version, length, rest = string.match(rows[row], '^(%d+) (%d+) (%d+) (.*)$')
      if num(version) <= span.bound then
        ordered[#ordered + 1] = {
          number = num(number), about = num(rows[row + 1]),
          name = string.sub(rest, 1, num(length)), text = string.sub(rest, num(length) + 1),
        }
      end
    end
    table.sort(ordered, function(one, other) return one.number < other.number end)
    for _, note in ipairs(ordered) do
      notes[note.about] = notes[note.about] or {}
      table.insert(notes[note.about], note)
    end
  end
  for place = #spans, 1, -1 do
    local span = spans[place]
    local lower, upper = math.max(start, span.start), math.min(stop, span.stop) - 1
    if lower <= upper then
      local elements = redis.call('LRANGE', P .. 't:' .. int(span.segment), int(lower - span.base), int(upper - span.base))
      for offset, element in ipairs(elements) do
        local index = lower + offset - 1
        flat[#flat + 1] = index
        flat[#flat + 1] = element
        local about = notes[index] or {}
        flat[#flat + 1] = #about
        for _, note in ipairs(about) do
          flat[#flat + 1] = note.name
          flat[#flat + 1] = note.text
        end
      end
    end
  end
  return flat
end

local function drop_id(element, segment)
  local id = split_turn(element)
  local left = {}
  for entry in string.gmatch(redis.call('HGET', P .. 'ids', id) or '', '[^;]+') do
    if string.match(entry, '^%d+') ~= int(segment) then
      left[#left + 1] = entry
    end
  end
  if #left == 0 then
    redis.call('HDEL', P .. 'ids', id)
  else
    redis.call('HSET', P .. 'ids', id, table.concat(left, ';'))
  end
end

local function shown(needed, index)
  for _, want in ipairs(needed) do
    if index >= math.max(want.span.start, want.first) and index < want.span.stop then
      return true
    end
  end
  return false
end

local function note_shown(needed, version, about, at)
  for _, want in ipairs(needed) do
    if version <= want.span.bound then
      if (about and about >= want.first and about < want.span.stop) or (at and at <= want.span.stop) then
        return true
      end
    end
  end
  return false
end

local function trim_turns(segment, needed)
  local key = P .. 't:' .. int(segment)
  local base = num(redis.call('HGET', P .. 's:' .. int(segment), 'base'))
  local elements, low, high = redis.call('LRANGE', key, 0, -1), nil, nil
  for place, element in ipairs(elements) do
    if shown(needed, base + place - 1) then
      low, high = low or place, place
    elseif element ~= '' then
      drop_id(element, segment)
      redis.call('LSET', key, place - 1, '')
    end
  end
  if not low then
    redis.call('DEL', key)
    low = #elements + 1
  else
    redis.call('LTRIM', key, low - 1, high - 1)
  end
  redis.call('HSET', P .. 's:' .. int(segment), 'base', int(base + low - 1))
end

local function trim_notes(segment, needed)
  local key = P .. 'a:' .. int(segment)
  local rows = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for row = 1, #rows, 2 do
    local version = num(string.match(rows[row], '^%d+ (%d+)'))
    if not note_shown(needed, version, num(rows[row + 1]), nil) then
      redis.call('ZREM', key, rows[row])
    end
  end
  for _, name in ipairs(redis.call('SMEMBERS', P .. 'n:' .. int(segment))) do
    key = P .. 'm:' .. int(segment) .. ':' .. name
    rows = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for row = 1, #rows, 2 do
      if not note_shown(needed, num(string.sub(rows[row], 1, 16)), nil, num(rows[row + 1])) then
        redis.call('ZREM', key, rows[row])
      end
    end
    if redis.call('EXISTS', key) == 0 then
      redis.call('SREM', P .. 'n:' .. int(segment), name)
    end
  end
end

-- Delete what no conversation of the family shows any more.
local function sweep()
  local needed, heads = {}, {}
  for _, tag in ipairs(redis.call('SMEMBERS', P .. 'members')) do
    local c = conversation(tag)
    heads[c.head] = true
    for _, span in ipairs(line(c, c.first)) do
      needed[span.segment] = needed[span.segment] or {}
      table.insert(needed[span.segment], { span = span, first = c.first })
    end
  end
  for _, name in ipairs(redis.call('SMEMBERS', P .. 'segments')) do
    local segment = num(name)
    trim_turns(segment, needed[segment] or {})
    trim_notes(segment, needed[segment] or {})
    if not needed[segment] then
      redis.call('DEL', P .. 's:' .. name)
      redis.call('SREM', P .. 'segments', name)
    end
  end
  if redis.call('EXISTS', P .. 'members') == 0 then
    redis.call('DEL', P .. 'next')
  end
  return heads
end
