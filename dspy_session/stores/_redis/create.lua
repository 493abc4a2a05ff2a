-- ARGV: tag, scope, key, incarnation, receipt, head digest, head, metadata, title, tags, cost, rows.
local c = conversation(TAG)
if c then
  if c.receipt == ARGV[5] and ARGV[12] ~= '0' and c.scope == ARGV[2] and c.key == ARGV[3] then
    return { 'ok', revision(c) }
  end
  return { 'exists' }
end
local family = elsewhere()
if family then
  return { 'moved', family }
end
local turns, notes = read_rows(12)
local segment = new_segment(ARGV[4], nil, 0, 0)
local known, abouts = indices(turns, 0), {}
for place, note in ipairs(notes) do
  abouts[place] = note.turn and known[note.turn]
end
write_rows(segment, 0, 1, turns, notes, abouts)
local time = int(now())
redis.call('HSET', P .. 'c:' .. TAG, 'scope', ARGV[2], 'key', ARGV[3], 'incarnation', ARGV[4], 'version', 1,
  'receipt', ARGV[5], 'segment', int(segment), 'total', #turns, 'first', 0, 'open', 1, 'bound', 0,
  'head', int(new_head(ARGV[6], ARGV[7])), 'metadata', ARGV[8], 'title', ARGV[9], 'tags', ARGV[10],
  'cost', ARGV[11], 'created', time, 'updated', time)
redis.call('SADD', P .. 'members', TAG)
return { 'ok', ARGV[4] .. '.1' }
