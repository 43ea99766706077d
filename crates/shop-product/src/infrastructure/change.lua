-- One change of the catalogue, all of it or nothing: product, index, event, answer for repeats.
-- KEYS: answer of the idempotency key, product, index, outbox, outbox position, generation
-- ARGV: fingerprint, seconds to keep it, id, version before (0: new), product,
--       event's kind, schema, payload, microseconds since 1970, traceparent, id, generation
if redis.call('GET', KEYS[6]) ~= ARGV[12] then return {'lost', ''} end
local kept = redis.call('HMGET', KEYS[1], 'fingerprint', 'product')
if kept[1] then
  if kept[1] == ARGV[1] then return {'repeat', kept[2]} end
  return {'reused', ''}
end
local before = redis.call('HGET', KEYS[2], 'version')
if (before or '0') ~= ARGV[4] then return {'moved', ''} end
redis.call('HSET', KEYS[2], 'version', tonumber(ARGV[4]) + 1, 'product', ARGV[5])
redis.call('ZADD', KEYS[3], 0, ARGV[3])
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1], 'product', ARGV[5])
redis.call('EXPIRE', KEYS[1], ARGV[2])
local position = redis.call('INCR', KEYS[5])
redis.call('XADD', KEYS[4], position .. '-0', 'event_id', ARGV[11], 'aggregate', ARGV[3],
  'version', tonumber(ARGV[4]) + 1, 'kind', ARGV[6], 'schema', ARGV[7], 'payload', ARGV[8],
  'occurred_at', ARGV[9], 'traceparent', ARGV[10])
return {'done', ARGV[5]}
