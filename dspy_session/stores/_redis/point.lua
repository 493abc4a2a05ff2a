-- Where a fork's key leads to. ARGV: tag, 'claim', 'confirm' or 'clear', the value, the value it is to replace.
local key = P .. 'at'
local value = redis.call('GET', key)
if ARGV[2] == 'claim' then
  if redis.call('EXISTS', P .. 'c:' .. TAG) == 1 then
    return { 'exists' }
  end
  if value then
    return { 'moved', value }
  end
  redis.call('SET', key, ARGV[3])
elseif value ~= ARGV[4] then
  return { 'changed' }
elseif ARGV[2] == 'confirm' then
  redis.call('SET', key, ARGV[3])
else
  redis.call('DEL', key)
end
return { 'ok' }
