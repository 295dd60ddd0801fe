-- keys: one function per Redis key of the jobs. A model's name has no space in it, so a space parts it from the user.
-- State: none. What each key holds is said by the fragment that owns it.

local key = {}

function key.job(id) return 'job:' .. id end
function key.jobs_of(user) return 'jobs:' .. user end
function key.idempotency(user, digest) return 'idem:' .. user .. ':' .. digest end
function key.user(user) return 'user:' .. user end
function key.tier(tier) return 'config:tier:' .. tier end
function key.name(name) return 'config:name:' .. name end
function key.pool(pool) return 'config:pool:' .. pool end
function key.pause(pool) return 'pause:' .. pool end
function key.lane(name, user) return 'lane:' .. name .. ' ' .. user end
function key.turns(name, user) return 'turns:' .. name .. ' ' .. user end
function key.parked(user) return 'parked:' .. user end
function key.queue(user) return 'queue:' .. user end
function key.backlog(name) return 'backlog:' .. name end
function key.ready(group) return 'fair:ready:' .. group end
function key.finish(group) return 'fair:finish:' .. group end
function key.virtual(group) return 'fair:virtual:' .. group end
function key.weights(name) return 'fair:weights:' .. name end
function key.claim(worker) return 'claim:' .. worker end
function key.worker(worker) return 'worker:' .. worker end
function key.cancels(worker) return 'cancels:' .. worker end
function key.ledger(day) return 'ledger:' .. day end
function key.usage(user, day) return 'usage:' .. user .. ':' .. day end
function key.usage_users(day) return 'charged:' .. day end
function key.endpoint(id) return 'endpoint:' .. id end
function key.endpoints_of(user) return 'endpoints:' .. user end
function key.subscriptions(user) return 'subscriptions:' .. user end
function key.signing(user) return 'signing:' .. user end
function key.delivery(id) return 'delivery:' .. id end
function key.deliveries_of(user) return 'deliveries:' .. user end
function key.waiting(lane) return 'outbox:waiting:' .. lane end
function key.failed(lane) return 'outbox:failed:' .. lane end
function key.receiver(lane) return 'receiver:' .. lane end
function key.deliveries_claim(worker) return 'claim:deliveries:' .. worker end

key.EPOCH = 'epoch'
key.ANONYMOUS = 'config:anonymous'
key.RETENTION = 'config:retention'
key.SEQUENCE = 'sequence'
key.DUE = 'due'
key.EXPIRIES = 'expiries'
key.LEASES = 'leases'
key.MIDNIGHT = 'midnight'
key.GUESTS = 'midnight:anonymous'
key.WEIGHT = 'fair:weight'
key.WAKE = 'wake'
key.ASLEEP = 'asleep'
key.HEARTBEAT = 'heartbeat'
key.GRACE = 'grace'
key.WORKERS = 'workers'
key.DEAD = 'dead'
key.DONE = 'done'
key.FIGURES = 'figures'
key.NEW_FIGURES = 'figures:new'
key.PACE = 'pace'
key.PROGRESS = 'progress'
key.CROWDED = 'crowded'
key.RELOOK = 'relook'
key.SCALING = 'scaling'
key.OUTBOX = 'outbox:lanes'
key.DELIVERY_LEASES = 'outbox:leases'
key.DELIVERY_ENDS = 'outbox:ends'
key.SENDING = 'outbox:sending'
key.WAKE_SENDERS = 'wake:senders'
key.ASLEEP_SENDERS = 'asleep:senders'
