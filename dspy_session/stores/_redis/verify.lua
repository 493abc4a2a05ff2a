-- ARGV: tag, scope, key. Answers with the head, the summary, and per span its turns and the entries of their ids.
local c = find_conversation()
if not c then
  return absent()
end
local spans, rows = line(c, c.first), {}
for place = #spans, 1, -1 do
  local span = spans[place]
  local lower, upper = math.max(c.first, span.start), span.stop - 1
  if lower <= upper then
    local elements = redis.call('LRANGE', P .. 't:' .. int(span.segment), int(lower - span.base), int(upper - span.base))
    for offset, element in ipairs(elements) do
      local entry = ''
      if element ~= '' then
        entry = redis.call('HGET', P .. 'ids', (split_turn(element))) or ''
      end
      rows[#rows + 1] = { lower + offset - 1, span.segment, element, entry }
    end
  end
end
local head = redis.call('HMGET', P .. 'h:' .. int(c.head), 'digest', 'data')
return { 'ok', head[1], head[2], c.first, c.total, rows }
