-- ARGV: tag, scope, key, 'keep', 'erase' or '', and only if last updated before this or ''.
-- Answers with (tag, key) of each erased conversation, or with the keys of the forks that forbid it.
local c = find_conversation()
if not c then
  return absent()
end
if ARGV[5] ~= '' and num(c.updated) >= num(ARGV[5]) then
  return { 'newer' }
end
local forks = {}
for _, tag in ipairs(redis.call('SMEMBERS', P .. 'members')) do
  local source = redis.call('HGET', P .. 'c:' .. tag, 'source')
  if source then
    forks[source] = forks[source] or {}
    table.insert(forks[source], tag)
  end
end
if forks[TAG] and ARGV[4] == '' then
  local keys = { 'forks' }
  for _, tag in ipairs(forks[TAG]) do
    keys[#keys + 1] = redis.call('HGET', P .. 'c:' .. tag, 'key')
  end
  return keys
end
local gone, place = { TAG }, 1
while place <= #gone do
  for _, tag in ipairs(forks[gone[place]] or {}) do
    if ARGV[4] == 'erase' then
      gone[#gone + 1] = tag
    else
      redis.call('HDEL', P .. 'c:' .. tag, 'source')
    end
  end
  place = place + 1
end
local answer, heads = { 'ok' }, {}
for _, tag in ipairs(gone) do
  local key, head = unpack(redis.call('HMGET', P .. 'c:' .. tag, 'key', 'head'))
  answer[#answer + 1], answer[#answer + 2] = tag, key
  heads[num(head)] = true
  redis.call('DEL', P .. 'c:' .. tag, P .. 'l:' .. tag)
  redis.call('SREM', P .. 'members', tag)
end
local used = sweep()
for head in pairs(heads) do
  if not used[head] then
    redis.call('DEL', P .. 'h:' .. int(head))
  end
end
return answer
