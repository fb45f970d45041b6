-- Final jobs: a ZSET for each state and keep time, at `finals:<class>`, by when they finished. All jobs of a class are
-- kept for the same time, so its first one is also the first to be removed.

local CLASS_OF = { [SUCCEEDED] = 'succeeded', [DEAD] = 'dead', [CANCELLED] = 'cancelled' }

local gathered_finals = {} -- by class: when, id, and so on by turns
local keep_of = {} -- by class

local function make_final(id, run, state, keep)
  run[STATE] = state
  run[FINISHED_AT] = now
  run[CANCEL] = false
  if run[UNIQUE_KEY] then
    call('HDEL', UNIQUE, run[UNIQUE_KEY])
  end
  local class = CLASS_OF[state] .. ':' .. string.format('%.0f', keep)
  local members = gathered_finals[class]
  if not members then
    members = {}
    gathered_finals[class] = members
    keep_of[class] = keep
  end
  local n = #members
  members[n + 1] = now
  members[n + 2] = id
end

local function make_cancelled(id, run, keep)
  run[WHY] = WHY_CANCELLED
  make_final(id, run, CANCELLED, keep)
end

local function flush_finals()
  for class, members in pairs(gathered_finals) do
    call_with_all('ZADD', class_key(class), members)
    call('ZADD', FINALS, 'NX', now + keep_of[class], class)
  end
end

-- The classes of a state that hold a job.
local function classes_of(state)
  local classes = {}
  local prefix = CLASS_OF[state] .. ':'
  for _, class in ipairs(call('ZRANGE', FINALS, 0, -1)) do
    if string.sub(class, 1, #prefix) == prefix then
      classes[#classes + 1] = class
    end
  end
  return classes
end

-- After a job has left a class: when the next one of it is to be removed.
local function class_has_changed(class)
  local first = call('ZRANGE', class_key(class), 0, 0, 'WITHSCORES')
  if first[2] then
    local keep = tonumber(string.match(class, '%d+$'))
    call('ZADD', FINALS, first[2] + keep, class)
  else
    call('ZREM', FINALS, class)
  end
end
