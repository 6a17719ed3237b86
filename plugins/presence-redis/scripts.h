/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file scripts.h
 * @brief What is done in Redis, each in one atomic step.
 *
 * Keys, behind the prefix:
 *   connection:USER           hash: session -> "NODE EPOCH DEVICE SINCE", and of a session that
 *                             said something more " STATUS AT TEXT"
 *   active:servers            hash: node -> its lease, "UNTIL EPOCH SINCE INSTANCE WHO..."
 *   active:epochs             hash: node -> its highest epoch: what is lower is of the past
 *   active:users:NODE:EPOCH   set: users with sessions there, so that a dead node's can be found
 *   active:retired            sorted set: "NODE@EPOCH" whose records go, by when (ms)
 *   active:swept              the same when they have gone: whoever was there must be told again
 *   presence:USER             hash: status, text, since, lastSeen, event; as it was told last
 *   events:presence           stream: who came (o 1), went (o 0), or is something else now (s, t);
 *                             read by each node, from where it was
 *
 * Epochs and times are whole numbers below 2^53, which a Lua number holds exactly.
 */
#ifndef PRESENCE_REDIS_SCRIPTS_H
#define PRESENCE_REDIS_SCRIPTS_H

#define LUA_NOW                                           \
	"local t = redis.call('TIME')\n"                      \
	"local now = t[1] * 1000 + math.floor(t[2] / 1000)\n" \
	"local function int(n) return string.format('%.0f', n) end\n"

/* What others see of a user with these records: busy before online before away, and the text that
 * was said last with it. */
#define LUA_STATE                                                                      \
	"local rank = { busy = 3, online = 2, away = 1 }\n"                                \
	"local function state(values)\n"                                                   \
	"  local status, at, text\n"                                                       \
	"  for _, value in ipairs(values) do\n"                                            \
	"    local s, a, t = string.match(value, '^%S+ %d+ %S+ %d+ (%a+) (%d+) ?(.*)$')\n" \
	"    if not rank[s] then s, a, t = 'online', 0, '' end\n"                          \
	"    a = tonumber(a)\n"                                                            \
	"    if not status or rank[s] > rank[status] or\n"                                 \
	"        (s == status and (a > at or (a == at and t > text))) then\n"              \
	"      status, at, text = s, a, t\n"                                               \
	"    end\n"                                                                        \
	"  end\n"                                                                          \
	"  return status or 'offline', text or ''\n"                                       \
	"end\n"

/* Somebody has come (online 1) or gone (0), or is something else now (nil): the log, a call to those
 * who read it, and what was told. */
#define LUA_TELL                                                                     \
	"local function tell(log, channel, who, user, online, status, text)\n"           \
	"  local words = { 'XADD', log, 'MAXLEN', '~', 10000, '*', 'u', user }\n"        \
	"  local function add(k, v) words[#words + 1] = k; words[#words + 1] = v end\n"  \
	"  if online then add('o', online) end\n"                                        \
	"  if not online or (online == 1 and (status ~= 'online' or text ~= '')) then\n" \
	"    add('s', status)\n"                                                         \
	"    add('t', text)\n"                                                           \
	"  end\n"                                                                        \
	"  local id = redis.call(unpack(words))\n"                                       \
	"  redis.call('PEXPIRE', log, 3600000)\n"                                        \
	"  redis.call('PUBLISH', channel, id)\n"                                         \
	"  redis.call('HSET', who, 'since', int(now), 'event', id)\n"                    \
	"  if text == '' then redis.call('HDEL', who, 'text') end\n"                     \
	"  if text ~= '' then redis.call('HSET', who, 'text', text) end\n"               \
	"  if online == 0 then\n"                                                        \
	"    redis.call('HDEL', who, 'status')\n"                                        \
	"    redis.call('HSET', who, 'lastSeen', int(now))\n"                            \
	"    redis.call('PEXPIRE', who, 2592000000)\n"                                   \
	"  else\n"                                                                       \
	"    redis.call('HSET', who, 'status', status)\n"                                \
	"    redis.call('PERSIST', who)\n"                                               \
	"  end\n"                                                                        \
	"end\n"

/* KEYS active:servers active:retired active:epochs
 * ARGV node epoch instance who lease_ms held_since dead_instance alone
 * Takes or renews the lease.  Epoch 0: a candidate, which has no epoch yet.  alone: " alone" of a
 * node whose store others cannot share, which its lease then says; it takes none beside another
 * node, and no other node takes one beside it: but that of one that has come within the last lease
 * goes when a node comes back that was there before, and that Redis had forgotten.
 * {1, since, had}: it is ours; had 1: it was, with this epoch.  {0, lease, node}: another instance
 * has it, or that of a node that cannot be beside this one.  {-1, epoch}: our epoch is too low. */
static const char script_claim[] = LUA_NOW
		"local node, mine, epoch = ARGV[1], ARGV[3], tonumber(ARGV[2])\n"
		"local lease = redis.call('HGET', KEYS[1], node)\n"
		"local since, had = tonumber(ARGV[6]), 0\n"
		/* Whoever has a lease keeps it, whoever comes. */
		"local mine_until, holder = string.match(lease or '', '^(%d+) %d+ %d+ (%S+)')\n"
		"local all = holder == mine and tonumber(mine_until) > now and {} or redis.call('HGETALL', KEYS[1])\n"
		"for i = 1, #all, 2 do\n"
		"  local u, e, s, n = string.match(all[i + 1], '^(%d+) (%d+) (%d+) (%S+)')\n"
		"  local alone = ARGV[8] ~= '' or string.match(all[i + 1], ' alone$')\n"
		"  if alone and all[i] ~= node and (tonumber(u) or 0) > now then\n"
		"    local came = tonumber(s)\n"
		"    local new = epoch > 0 and since > 0 and came > since and now - came < tonumber(ARGV[5])\n"
		"    if n ~= ARGV[7] and not new then return {0, all[i + 1], all[i]} end\n"
		"    redis.call('HDEL', KEYS[1], all[i])\n"
		"    if e ~= '0' then redis.call('ZADD', KEYS[2], int(now), all[i] .. '@' .. e) end\n"
		"  end\n"
		"end\n"
		"local floor = tonumber(redis.call('HGET', KEYS[3], node) or 0) or 0\n"
		"if lease then\n"
		"  local u, e, s, i = string.match(lease, '^(%d+) (%d+) (%d+) (%S+)')\n"
		"  u, e, s = tonumber(u) or 0, tonumber(e) or 0, tonumber(s) or now\n"
		"  if i == mine then\n"
		"    if e > epoch then return {-1, int(e)} end\n"
		"    since = s\n"
		"    if e == epoch then had = 1 end\n"
		"    if e > 0 and e < epoch then\n"
		"      redis.call('ZADD', KEYS[2], int(now + 10000), node .. '@' .. int(e))\n"
		"    end\n"
		"  else\n"
		/* A candidate gives way to one that has been there all the time. */
		"    local gives_way = e == 0 and epoch > 0 and since > 0\n"
		"    if u > now and i ~= ARGV[7] and not gives_way then return {0, lease, node} end\n"
		"    if e > 0 then\n"
		"      local due = math.min(now + 5000, math.max(u, now))\n"
		"      redis.call('ZADD', KEYS[2], int(due), node .. '@' .. int(e))\n"
		"    end\n"
		"  end\n"
		"end\n"
		/* A lease that has gone was swept, and its epoch is over, unless all was wiped. */
		"if epoch > 0 and had == 0 and epoch <= floor then\n"
		"  return {-1, int(floor)}\n"
		"end\n"
		"if epoch > floor then redis.call('HSET', KEYS[3], node, int(epoch)) end\n"
		"if since == 0 then since = now end\n"
		"redis.call('HSET', KEYS[1], node, int(now + ARGV[5]) .. ' ' .. int(epoch) .. ' ' ..\n"
		"  int(since) .. ' ' .. mine .. ' ' .. ARGV[4] .. ARGV[8])\n"
		"return {1, since, had}\n";

/* KEYS active:swept  ARGV node epoch.  1: the records of that epoch were swept. */
static const char script_was_swept[] =
		"return redis.call('ZSCORE', KEYS[1], ARGV[1] .. '@' .. ARGV[2]) and 1 or 0\n";

/* KEYS connection:USER active:servers active:users:NODE:EPOCH events:presence presence:USER
 * ARGV node epoch user told lost channel, then session value pairs
 * These are all sessions of the user here; records of this node that are not among them go,
 * unless a newer epoch wrote them.  told: the coming was told before.  lost: Redis may have
 * forgotten that the user was here.  -1: the lease is not of this epoch; else the number of
 * records that there are now. */
static const char script_sync[] = LUA_NOW LUA_STATE LUA_TELL
		"local node, epoch, user = ARGV[1], tonumber(ARGV[2]), ARGV[3]\n"
		"local lease = redis.call('HGET', KEYS[2], node)\n"
		"if not lease or string.match(lease, '^%d+ (%d+) ') ~= ARGV[2] then return -1 end\n"
		"local all = redis.call('HGETALL', KEYS[1])\n"
		"local before, others, old, values = #all / 2, 0, {}, {}\n"
		"for i = 1, #all, 2 do\n"
		"  local n, e = string.match(all[i + 1], '^(%S+) (%d+)')\n"
		"  if n == node and tonumber(e) <= epoch then old[all[i]] = all[i + 1]\n"
		"  else\n"
		"    others = others + 1\n"
		"    values[#values + 1] = all[i + 1]\n"
		"  end\n"
		"end\n"
		"local here = 0\n"
		"for i = 7, #ARGV, 2 do\n"
		"  if old[ARGV[i]] ~= ARGV[i + 1] then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end\n"
		"  old[ARGV[i]] = nil\n"
		"  values[#values + 1] = ARGV[i + 1]\n"
		"  here = here + 1\n"
		"end\n"
		"for session in pairs(old) do redis.call('HDEL', KEYS[1], session) end\n"
		"if here > 0 then redis.call('SADD', KEYS[3], user)\n"
		"else redis.call('SREM', KEYS[3], user) end\n"
		"local after = others + here\n"
		"local status, text = state(values)\n"
		"local told = redis.call('HMGET', KEYS[5], 'status', 'text')\n"
		"if before == 0 and after > 0 and ARGV[4] == '0' then\n"
		"  tell(KEYS[4], ARGV[6], KEYS[5], user, 1, status, text)\n"
		"elseif after == 0 and (before > 0 or ARGV[5] == '1') then\n"
		"  tell(KEYS[4], ARGV[6], KEYS[5], user, 0, status, text)\n"
		/* Redis has forgotten what was told: it is what it was. */
		"elseif after > 0 and not told[1] then\n"
		"  redis.call('HSET', KEYS[5], 'status', status)\n"
		"  redis.call('HSETNX', KEYS[5], 'since', int(now))\n"
		"  if text ~= '' then redis.call('HSET', KEYS[5], 'text', text) end\n"
		"  redis.call('PERSIST', KEYS[5])\n"
		"elseif after > 0 and (told[1] ~= status or (told[2] or '') ~= text) then\n"
		"  tell(KEYS[4], ARGV[6], KEYS[5], user, nil, status, text)\n"
		"end\n"
		"return after\n";

/* KEYS active:servers active:retired active:swept events:presence
 * ARGV prefix channel budget judge leaving
 * Records of nodes that are no more.  judge 1: leases that are over count as such.  leaving:
 * "NODE EPOCH INSTANCE" of one that goes now, or "".  {left, live}: epochs that still have
 * records, and the nodes whose leases hold. */
static const char script_sweep[] = LUA_NOW LUA_STATE LUA_TELL
		"local live, left = {}, 0\n"
		"local all = redis.call('HGETALL', KEYS[1])\n"
		"for i = 1, #all, 2 do\n"
		"  local node = all[i]\n"
		"  local u, e, n = string.match(all[i + 1], '^(%d+) (%d+) %d+ (%S+)')\n"
		"  local leaves = u and ARGV[5] == node .. ' ' .. e .. ' ' .. n\n"
		"  if not u or leaves or (tonumber(u) <= now and ARGV[4] == '1') then\n"
		"    redis.call('HDEL', KEYS[1], node)\n"
		"    if e and e ~= '0' then redis.call('ZADD', KEYS[2], int(now), node .. '@' .. e) end\n"
		"  elseif tonumber(u) > now then live[#live + 1] = node end\n"
		"end\n"
		"local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', int(now), 'LIMIT', 0, 16)\n"
		"local budget = tonumber(ARGV[3])\n"
		"for _, id in ipairs(due) do\n"
		"  local node, e = string.match(id, '^(.*)@(%d+)$')\n"
		"  local index = ARGV[1] .. 'active:users:' .. node .. ':' .. e\n"
		"  local users = budget > 0 and redis.call('SPOP', index, budget) or {}\n"
		"  budget = budget - #users\n"
		"  for _, user in ipairs(users) do\n"
		"    local key, gone, values = ARGV[1] .. 'connection:' .. user, 0, {}\n"
		"    local who = ARGV[1] .. 'presence:' .. user\n"
		"    local records = redis.call('HGETALL', key)\n"
		"    for i = 1, #records, 2 do\n"
		"      local n, r = string.match(records[i + 1], '^(%S+) (%d+)')\n"
		"      if n == node and tonumber(r) <= tonumber(e) then\n"
		"        redis.call('HDEL', key, records[i])\n"
		"        gone = gone + 1\n"
		"      else values[#values + 1] = records[i + 1] end\n"
		"    end\n"
		"    local told = redis.call('HMGET', who, 'status', 'text')\n"
		"    local status, text = state(values)\n"
		"    if gone > 0 and #values == 0 then\n"
		"      tell(KEYS[4], ARGV[2], who, user, 0, status, text)\n"
		"    elseif gone > 0 and told[1] and (told[1] ~= status or (told[2] or '') ~= text) then\n"
		"      tell(KEYS[4], ARGV[2], who, user, nil, status, text)\n"
		"    end\n"
		"  end\n"
		"  redis.call('ZADD', KEYS[3], int(now), id)\n"
		"  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', int(now - 86400000))\n"
		"  if redis.call('EXISTS', index) == 0 then redis.call('ZREM', KEYS[2], id)\n"
		"  else left = left + 1 end\n"
		"end\n"
		"return {left, live}\n";

/* KEYS connection:USER...  1 or 0 for each. */
static const char script_get[] =
		"local out = {}\n"
		"for i, key in ipairs(KEYS) do out[i] = redis.call('EXISTS', key) end\n"
		"return out\n";

/* KEYS connection:USER presence:USER ...  For each {online, status, text, since, lastSeen, event}. */
static const char script_look[] =
		"local out = {}\n"
		"for i = 1, #KEYS, 2 do\n"
		"  local p = redis.call('HMGET', KEYS[i + 1], 'status', 'text', 'since', 'lastSeen', 'event')\n"
		"  out[#out + 1] = { redis.call('EXISTS', KEYS[i]), p[1], p[2], p[3], p[4], p[5] }\n"
		"end\n"
		"return out\n";

/* KEYS active:servers, then connection:USER...  ARGV node.  The other nodes among their records;
 * nil: our own lease is gone, so Redis has forgotten what it knew. */
static const char script_nodes[] =
		"if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return false end\n"
		"local out, seen = {}, { [ARGV[1]] = true }\n"
		"for i = 2, #KEYS do\n"
		"  for _, value in ipairs(redis.call('HVALS', KEYS[i])) do\n"
		"    local node = string.match(value, '^(%S+)')\n"
		"    if node and not seen[node] then\n"
		"      seen[node] = true\n"
		"      out[#out + 1] = node\n"
		"    end\n"
		"  end\n"
		"end\n"
		"return out\n";

#endif
