-- Takes the lease in KEYS[1] unless another holds one that has not ended.
-- ARGV: now and the lease's end in milliseconds, the new owner.
-- Epochs begin with the time, so that a Redis that lost its memory draws none a second time.
local now = tonumber(ARGV[1])
local held = redis.call('HMGET', KEYS[1], 'owner', 'until', 'epoch', 'position')
if held[1] and tonumber(held[2]) > now then
  return false
end
local epoch = string.format('%d', math.max(tonumber(held[3] or 0) + 1, now))
redis.call('HSET', KEYS[1], 'owner', ARGV[3], 'until', ARGV[2], 'epoch', epoch)
return { epoch, held[4] }
