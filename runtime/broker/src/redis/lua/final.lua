-- Final jobs: a ZSET for each state and keep time, at `finals:<class>`, by when they finished. All jobs of a class are
-- kept for the same time, so its first one is also the first to be removed.

local WHY_CANCELLED = '\146\169cancelled\194' -- in MessagePack, as layout.rs writes it

-- Jobs that become final are gathered by state and keep time: when, id, and so on by turns.
local gathered_finals = { [SUCCEEDED] = {}, [DEAD] = {}, [CANCELLED] = {} }
local finished_at = score(now)

local function make_final(id, run, state, keep)
  run[STATE], run[FINISHED_AT], run[CANCEL] = state, now, 0
  local unique = in_tail(run, UNIQUE_KEY)
  if unique then
    call('HDEL', UNIQUE, unique)
  end
  local members = gathered_finals[state][keep]
  if not members then
    members = {}
    gathered_finals[state][keep] = members
  end
  local n = #members
  members[n + 1] = finished_at
  members[n + 2] = id
end

local function make_cancelled(id, run, keep)
  set_in_tail(run, WHY, WHY_CANCELLED)
  make_final(id, run, CANCELLED, keep)
end

local function flush_finals()
  for state, by_keep in pairs(gathered_finals) do
    for keep, members in pairs(by_keep) do
      local class = CLASS_OF[state] .. score(keep)
      call_with_all('ZADD', CLASS_KEY .. class, members)
      call('ZADD', FINALS, 'NX', score(now + keep), class)
    end
  end
end

-- The classes of a state that hold a job.
local function classes_of(state)
  local classes = {}
  local prefix = CLASS_OF[state]
  for _, class in ipairs(call('ZRANGE', FINALS, 0, -1)) do
    if sub(class, 1, #prefix) == prefix then
      classes[#classes + 1] = class
    end
  end
  return classes
end

local function keep_of(class)
  return tonumber(string.match(class, '%d+$'))
end

-- After a job has left a class: when the next one of it is to be removed.
local function class_has_changed(class)
  local first = call('ZRANGE', CLASS_KEY .. class, 0, 0, 'WITHSCORES')
  if first[2] then
    call('ZADD', FINALS, score(first[2] + keep_of(class)), class)
  else
    call('ZREM', FINALS, class)
  end
end
