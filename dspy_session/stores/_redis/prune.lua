-- ARGV: tag, scope, key, keep.
local c = find_conversation()
if not c then
  return absent()
end
local first = math.max(c.first, c.total - num(ARGV[4]))
redis.call('HSET', P .. 'c:' .. TAG, 'first', int(first))
sweep()
return { 'ok', first - c.first }
