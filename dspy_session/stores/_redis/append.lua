-- ARGV: tag, scope, key, expected, receipt, empty, keep, fence, title, tags, cost, rows; '' stands for none.
local c = find_conversation()
if not c then
  return absent()
end
local turns, notes = read_rows(12)
local keep, current = num(ARGV[7]), revision(c)
if ARGV[4] ~= current then
  if c.receipt == ARGV[5] then
    return { 'ok', current }
  end
  local start, version = standing(c, turns)
  if start and (not keep or keep == start) then
    return { 'ok', c.incarnation .. '.' .. int(version) }
  end
end
if ARGV[8] ~= '' then
  local lease = redis.call('HMGET', P .. 'l:' .. TAG, 'token', 'expires')
  if lease[1] ~= ARGV[8] or lease[2] == '0' then
    return { 'fence', current }
  end
end
if ARGV[4] ~= current then
  return { 'stale', current }
end
if ARGV[6] == '1' then
  return { 'ok', current }
end
local at = keep or c.total
if at < c.first or at > c.total then
  return { 'position', int(c.first) .. ' ' .. int(c.total) }
end
for _, turn in ipairs(turns) do
  local found = find(c, turn.id)
  if found and found.index < at then
    if not keep and standing(c, turns) then
      return { 'ok', current }
    end
    return { 'duplicate', current, turn.id }
  end
end
local known, abouts = indices(turns, at), {}
for place, note in ipairs(notes) do
  if note.turn then
    abouts[place] = known[note.turn]
    if not abouts[place] then
      local found = find(c, note.turn)
      if not found or found.index >= at then
        return { 'turn', current, note.turn }
      end
      abouts[place] = found.index
    end
  end
end

local version, segment, open, bound = c.version + 1, c.segment, 1, 0
if c.open == 0 or at ~= c.total then
  if #turns == 0 and #notes == 0 then
    open, bound = 0, limit_of(c)
  else
    local carried = standing_notes(c, at)
    segment = new_segment(c.incarnation, c.segment, at, limit_of(c))
    for _, note in ipairs(carried) do
      write_note(segment, at, version, note, nil)
    end
  end
end
write_rows(segment, at, version, turns, notes, abouts)
local key = P .. 'c:' .. TAG
redis.call('HSET', key, 'version', int(version), 'receipt', ARGV[5], 'segment', int(segment),
  'total', int(at + #turns), 'open', open, 'bound', int(bound), 'updated', int(now()),
  'cost', string.format('%.17g', num(c.cost) + num(ARGV[11])))
if ARGV[9] ~= '' then
  redis.call('HSET', key, 'title', ARGV[9])
end
if ARGV[10] ~= '' then
  redis.call('HSET', key, 'tags', ARGV[10])
end
return { 'ok', c.incarnation .. '.' .. int(version) }
