-- room: what a script may do on a server whose memory is full (maxmemory reached, nothing evicted).
-- State: none; the key `nothing` is named and never made.
-- Such a server looks once: at a script's first write, which it refuses if that kind of command can need memory. So a
-- script fails before it has changed anything, or is not stopped any more: which of the two is decided here, not by
-- whatever a script happens to write first. Redis 6.2, 8.2 and Valkey 9.1 do the same.

local room = {}

-- To be called first by a script that takes on work: a full server refuses it here.
function room.needed() redis.call('SETRANGE', 'nothing', 0, '') end

-- To be called first by a script that brings work to its end or keeps it alive: a full server lets it write all it must.
function room.spared() redis.call('DEL', 'nothing') end
