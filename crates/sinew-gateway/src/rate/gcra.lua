-- One call out of a quota: the generic cell rate algorithm of gcra.rs, on this server's clock.
-- KEYS[1]: the theoretical arrival time in microseconds. ARGV: microseconds that a call takes, calls at once.
-- Answers how long to wait, how far ahead the arrival time lies (both in microseconds) and how many calls may follow.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local interval = tonumber(ARGV[1])
local tolerance = interval * tonumber(ARGV[2])
local tat = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
local wait = tat + interval - tolerance - now
if wait <= 0 then
  wait = 0
  tat = tat + interval
  -- Idle keys go by themselves: an arrival time in the past is the same as none.
  redis.call('SET', KEYS[1], string.format('%.3f', tat), 'PX', math.ceil((tat - now) / 1000) + 1)
end
local remaining = math.floor((tolerance - (tat - now)) / interval + 0.000001)
return { math.ceil(wait), math.ceil(tat - now), math.max(remaining, 0) }
