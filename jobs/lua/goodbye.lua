-- goodbye: a worker that has nothing left to run is gone: nobody waits for it, and its record goes.
-- ARGV     worker
-- Returns  1
-- Touches  workers, worker:<worker>, asleep, asleep:senders, claim:<worker>, claim:deliveries:<worker>, cancels:<worker>
-- @use keys

redis.call('ZREM', key.WORKERS, ARGV[1])
redis.call('ZREM', key.ASLEEP, ARGV[1])
redis.call('ZREM', key.ASLEEP_SENDERS, ARGV[1])
redis.call('DEL', key.worker(ARGV[1]), key.claim(ARGV[1]), key.cancels(ARGV[1]), key.deliveries_claim(ARGV[1]))
return 1
