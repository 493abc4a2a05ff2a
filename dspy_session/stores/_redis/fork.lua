-- ARGV: tag, scope, key, new tag, new key, incarnation, at, head digest, head, metadata, title, tags; '' for none.
local c = find_conversation()
if not c then
  return absent()
end
local at = num(ARGV[7]) or c.total
if at < c.first or at > c.total then
  return { 'position', int(c.first) .. ' ' .. int(c.total) }
end
if redis.call('EXISTS', P .. 'c:' .. ARGV[4]) == 1 then
  return { 'exists' }
end
local head, time = c.head, int(now())
if ARGV[9] ~= '' then
  head = new_head(ARGV[8], ARGV[9])
end
local function given(place, other)
  if ARGV[place] ~= '' then
    return ARGV[place]
  end
  return other
end
redis.call('HSET', P .. 'c:' .. ARGV[4], 'scope', c.scope, 'key', ARGV[5], 'incarnation', ARGV[6], 'version', 1,
  'receipt', '', 'segment', int(c.segment), 'total', int(at), 'first', int(c.first), 'open', 0,
  'bound', int(limit_of(c)), 'head', int(head), 'metadata', given(10, c.metadata), 'title', given(11, c.title),
  'tags', given(12, c.tags), 'cost', 0, 'created', time, 'updated', time, 'source', TAG)
redis.call('SADD', P .. 'members', ARGV[4])
return { 'ok', ARGV[6] .. '.1' }
