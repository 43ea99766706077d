-- Writes to the hash in KEYS[1] while its epoch is ARGV[1]: ARGV[2] fields and their values, then fields to delete.
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then
  return 0
end
local written = tonumber(ARGV[2])
for at = 3, 2 + 2 * written, 2 do
  redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
end
for at = 3 + 2 * written, #ARGV do
  redis.call('HDEL', KEYS[1], ARGV[at])
end
return 1
