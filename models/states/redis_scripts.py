"""What Redis does by itself, each in one step that nobody sees half of.

Keys, all in one slot of a cluster by the braces; `base` is esci:state:{member}:identity.

    esci:state:{member}:identities    every identity that was ever begun here
    esci:state:{member}:writer        who writes now, until it expires
    base:current                      the snapshot that answers
    base:committer                    the token of the lock under which it was committed
    base:drafts                       those that are being filled, or were
    base:<snapshot>:<0 to 255>        records by product key: hashes, by the first byte of the key

Many hashes rather than one, so that none takes Redis long to free when it expires. Every script is
given `base` as its first key. Those that write are given the writer's key as the second and its
token as the first argument, and answer nil where another has it. A set of product keys is one
argument, the keys behind each other; an answer about them is a string of a 1 or 0 for each.
"""

from typing import Final

from models.states.records import DIGEST_BYTES, RecordForm
from models.vectors.source import KEY_BYTES

SHARDS: Final = 256  # as many as a byte tells apart

_COMMON: Final = f"""
local function shard(snapshot, number)
  return KEYS[1] .. ':' .. snapshot .. ':' .. number
end
local function shards(snapshot)
  local number = -1
  return function()
    number = number + 1
    if number < {SHARDS} then return shard(snapshot, number) end
  end
end
local function each(keys)
  local at = 1 - {KEY_BYTES}
  return function()
    at = at + {KEY_BYTES}
    if at <= #keys then return string.sub(keys, at, at + {KEY_BYTES - 1}) end
  end
end
local function look_up(snapshot, key)
  local record = redis.call('HGET', shard(snapshot, string.byte(key)), key)
  return record and #record == stride and record
end
local function is_finite(record)
  for at = first, last, step do
    local low, high = string.byte(record, at, at + 1)
    if high % 128 * 256 + low >= limit then return false end
  end
  return true
end
local function is_held()
  return redis.call('GET', KEYS[2]) == ARGV[1]
end
"""

READ: Final = """
-- snapshot or '' for the current one, keys
-- -> snapshot, which are known, their records, the committer of the current one if it was asked for
local snapshot, committer = ARGV[1], ''
if snapshot == '' then
  local found = redis.call('MGET', KEYS[1] .. ':current', KEYS[1] .. ':committer')
  snapshot, committer = found[1] or '', found[2] or ''
end
local known, records = {}, {}
for key in each(ARGV[2]) do
  local record = snapshot ~= '' and look_up(snapshot, key)
  known[#known + 1] = record and '1' or '0'
  if record then records[#records + 1] = record end
end
return {snapshot, table.concat(known), table.concat(records), committer}
"""

DIGESTS: Final = f"""
-- snapshot, keys -> which are known and finite, their digests
local known, digests = {{}}, {{}}
for key in each(ARGV[2]) do
  local record = look_up(ARGV[1], key)
  local good = record and is_finite(record)
  known[#known + 1] = good and '1' or '0'
  if good then digests[#digests + 1] = string.sub(record, 1, {DIGEST_BYTES}) end
end
return {{table.concat(known), table.concat(digests)}}
"""

CURRENT: Final = """
-- -> the current snapshot or '', how many records are left of it
local snapshot, count = redis.call('GET', KEYS[1] .. ':current') or '', 0
if snapshot ~= '' then
  for hash in shards(snapshot) do count = count + redis.call('HLEN', hash) end
end
return {snapshot, count}
"""

BEGIN: Final = """
-- token, both names that a draft may have, milliseconds it is kept, identity, key of identities
-- -> the draft's name, then those of what may be taken over, the current one first
if not is_held() then return false end
local current = redis.call('GET', KEYS[1] .. ':current') or ''
local draft = current == ARGV[2] and ARGV[3] or ARGV[2]
local drafts = KEYS[1] .. ':drafts'
redis.call('SADD', ARGV[6], ARGV[5])
redis.call('SADD', drafts, draft)
redis.call('PEXPIRE', drafts, ARGV[4])
for hash in shards(draft) do redis.call('PEXPIRE', hash, ARGV[4]) end
local answer = {draft}
if current ~= '' then answer[2] = current end
for _, other in ipairs(redis.call('SMEMBERS', drafts)) do
  if other ~= draft and other ~= current then answer[#answer + 1] = other end
end
return answer
"""

KNOWN: Final = """
-- token, draft, keys -> which are known and finite
if not is_held() then return false end
local known = {}
for key in each(ARGV[3]) do
  local record = look_up(ARGV[2], key)
  known[#known + 1] = record and is_finite(record) and '1' or '0'
end
return table.concat(known)
"""

_STORE: Final = """
local renewed = {}
local function store(key, record)
  local hash = shard(ARGV[2], string.byte(key))
  redis.call('HSET', hash, key, record)
  if not renewed[hash] then
    redis.call('PEXPIRE', hash, ARGV[3])
    renewed[hash] = true
  end
end
"""

APPEND: Final = f"""
-- token, draft, milliseconds it is kept, keys, records -> how many
if not is_held() then return false end
{_STORE}
local count = 0
for key in each(ARGV[4]) do
  store(key, string.sub(ARGV[5], count * stride + 1, (count + 1) * stride))
  count = count + 1
end
return count
"""

TAKE_OVER: Final = f"""
-- token, draft, milliseconds it is kept, keys, digests, where from... -> which are in the draft
if not is_held() then return false end
{_STORE}
local function taken(key, digest)
  for from = 6, #ARGV do
    local record = look_up(ARGV[from], key)
    if record and string.sub(record, 1, {DIGEST_BYTES}) == digest and is_finite(record) then
      store(key, record)
      return true
    end
  end
  return false
end
local known = {{}}
for key in each(ARGV[4]) do
  local at = #known * {DIGEST_BYTES}
  local record = look_up(ARGV[2], key)
  local good = record and is_finite(record)
    or taken(key, string.sub(ARGV[5], at + 1, at + {DIGEST_BYTES}))
  known[#known + 1] = good and '1' or '0'
end
return table.concat(known)
"""

COMMIT: Final = """
-- token, draft, expected count, milliseconds that the snapshot before it is kept -> count
if not is_held() then return false end
local count = 0
for hash in shards(ARGV[2]) do count = count + redis.call('HLEN', hash) end
if count ~= tonumber(ARGV[3]) then return count end
local current, drafts = KEYS[1] .. ':current', KEYS[1] .. ':drafts'
local before = redis.call('GET', current)
for hash in shards(ARGV[2]) do redis.call('PERSIST', hash) end
redis.call('MSET', current, ARGV[2], KEYS[1] .. ':committer', ARGV[1])
if before and before ~= ARGV[2] then
  for hash in shards(before) do redis.call('PEXPIRE', hash, ARGV[4]) end
end
for _, other in ipairs(redis.call('SMEMBERS', drafts)) do
  if other ~= ARGV[2] and other ~= before then
    for hash in shards(other) do redis.call('UNLINK', hash) end
  end
end
redis.call('DEL', drafts)
return count
"""

FORGET: Final = """
-- token, identity, key of identities -> 1
if not is_held() then return false end
local current, drafts = KEYS[1] .. ':current', KEYS[1] .. ':drafts'
local snapshots = redis.call('SMEMBERS', drafts)
snapshots[#snapshots + 1] = redis.call('GET', current) or nil
for _, snapshot in ipairs(snapshots) do
  for hash in shards(snapshot) do redis.call('UNLINK', hash) end
end
redis.call('DEL', current, drafts, KEYS[1] .. ':committer')
redis.call('SREM', ARGV[3], ARGV[2])
return 1
"""

RENEW: Final = """
-- KEYS: the writer's key alone; token, milliseconds -> whether it is still held
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""

RELEASE: Final = """
-- KEYS: the writer's key alone; token -> whether it was held
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""


def about_records(script: str, form: RecordForm) -> str:
    """A script that handles records of this form."""
    first, step, count, limit = _numbers(form)
    return (
        f"local stride, first, step, limit = {form.stride}, {first}, {step}, {limit}\n"
        f"local last = first + step * {count - 1}\n{_COMMON}{script}"
    )


def _numbers(form: RecordForm) -> tuple[int, int, int, int]:
    """Where the floats of a record are, and what they are when they are not finite.

    The place of the upper two bytes of the first, counted from 1; how far it is to the next; how
    many there are; and the least number that these bytes make, without the sign, in such a one.
    """
    precision, width = form.states.precision, form.states.width
    if precision == "fp16":
        return DIGEST_BYTES + 1, 2, width, 0x7C00
    # In front of int8 stands their scale, the one float there is.
    return DIGEST_BYTES + 3, 4, 1 if precision == "int8" else width, 0x7F80
