-- ARGV: tag, scope, key, 'last' or 'before', that number or '', limit or ''.
local c = find_conversation()
if not c then
  return absent()
end
local start, stop, notes = c.first, c.total, {}
if ARGV[4] == 'before' then
  stop = math.min(num(ARGV[5]) or c.total, c.total)
  if ARGV[6] ~= '' then
    start = math.max(start, stop - num(ARGV[6]))
  end
  return { 'ok', window(c, start, stop) }
end
if ARGV[5] ~= '' then
  start = math.max(start, stop - num(ARGV[5]))
end
for place, note in ipairs(standing_notes(c, c.total)) do
  notes[place] = note.text
end
local head = redis.call('HGET', P .. 'h:' .. int(c.head), 'data')
return { 'ok', window(c, start, stop), revision(c), head, c.metadata, c.total, c.first, notes, c.title, c.tags, c.cost }
