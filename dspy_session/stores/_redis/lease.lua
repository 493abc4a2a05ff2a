-- ARGV: tag, scope, key, 'take', 'renew' or 'drop', token or '', milliseconds it lasts.
if not find_conversation() then
  local family = elsewhere()
  if family then
    return { 'moved', family }
  end
end
local key, time = P .. 'l:' .. TAG, now()
local token, expires = unpack(redis.call('HMGET', key, 'token', 'expires'))
local until_then = int(time + num(ARGV[6]) * 1000)
if ARGV[4] == 'take' then
  if expires and num(expires) > time then
    return { 'held' }
  end
  token = int(math.max(token and num(token) + 1 or 0, time))
  redis.call('HSET', key, 'token', token, 'expires', until_then)
elseif token ~= ARGV[5] or expires == '0' then
  return { 'lost' }
elseif ARGV[4] == 'renew' then
  redis.call('HSET', key, 'expires', until_then)
else
  redis.call('HSET', key, 'expires', 0)
end
-- Long after it expired nobody can hold an older token: the row need not stay for ever.
redis.call('PEXPIRE', key, int(num(ARGV[6]) + 86400000))
return { 'ok', token }
