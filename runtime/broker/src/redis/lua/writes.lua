-- What a call is going to write.
--
-- Redis takes nothing back of what a call wrote before an error. So functions decide everything first and gather it
-- here; then `writes.commit` makes sure that nothing is left which could be refused, and writes it all. What could be: a
-- command that the user may not call, and a key of another type. Memory and disks are looked at by the server itself,
-- before a call starts and not between its writes.

local writes = {}

do
  local may_call = redis.acl_check_cmd

  -- How many arguments have to follow the key, in a call that asks for permission.
  local ARGUMENTS = {
    DEL = 0, EXISTS = 0, EXPIRE = 1, HDEL = 1, HSET = 2, LTRIM = 2, MSET = 1, MSETNX = 1, PUBLISH = 1, RPUSH = 1, SADD = 1, SET = 1,
    SREM = 1, UNLINK = 0, ZADD = 2, ZREM = 1, ZREMRANGEBYRANK = 2,
  }

  -- What is called, in order: each command with all that it is called with, in a list. A command is left out that has nothing but
  -- its key, and one of those for many keys that has none.
  local commands, commands_count
  local many, many_count -- MSET and UNLINK
  local fresh -- MSETNX, or nothing
  local strings, removed -- the lists of MSET and UNLINK that all share, or nothing
  local values_of -- by command and key, of those lists that were asked for so; or nothing
  local is_of_its_type -- by key: whether a command of the function has told so
  local messages -- for the listeners, or nothing
  local may_end_sequence

  function writes.start()
    commands, commands_count, many, many_count, is_of_its_type = {}, 0, {}, 0, {}
    fresh, strings, removed, values_of, messages, may_end_sequence = nil, nil, nil, nil, nil, false
  end

  local function list_of_many(command)
    local list = { command }
    many_count = many_count + 1
    many[many_count] = list
    return list
  end

  -- Where keys and values are to be appended that are written if none of the keys is there, whatever it holds; otherwise nothing
  -- is written at all. There may be no more than `SLICE` of them. To look first would cost another command.
  function writes.fresh()
    fresh = fresh or { 'MSETNX' }
    return fresh
  end

  -- Where keys and values are to be appended that MSET writes.
  function writes.strings()
    strings = strings or list_of_many('MSET')
    return strings
  end

  -- The same for a caller alone, which so knows how many there are.
  function writes.own_strings()
    return list_of_many('MSET')
  end

  function writes.string(key, value)
    local all = strings or writes.strings()
    local n = #all
    all[n + 1], all[n + 2] = key, value
  end

  -- Says that a key goes, whatever it holds.
  function writes.remove(key)
    removed = removed or list_of_many('UNLINK')
    removed[#removed + 1] = key
  end

  -- Where the values are to be appended with which the command is called for the key; they begin behind these two. It isn't
  -- called without any.
  function writes.list(command, key)
    local list = { command, key }
    commands_count = commands_count + 1
    commands[commands_count] = list
    return list
  end

  -- The same, and for the same command and key the same ones again.
  function writes.values(command, key)
    local name = command .. key
    values_of = values_of or {}
    local list = values_of[name]
    if not list then
      list = writes.list(command, key)
      values_of[name] = list
    end
    return list
  end

  function writes.value(command, key, value)
    local list = writes.values(command, key)
    list[#list + 1] = value
  end

  function writes.pair(command, key, first, second)
    local list = writes.values(command, key)
    local n = #list
    list[n + 1], list[n + 2] = first, second
  end

  -- Says that a command has read this key as what it is written as.
  function writes.knows(key)
    is_of_its_type[key] = true
  end

  -- Tells the listeners, each thing once: nothing if there is work, NAMED and a daemon's id if that one is to look for it, or the
  -- id of a leased job that somebody wants cancelled.
  function writes.wake(about)
    local message = about or ''
    messages = messages or {}
    if not messages[message] then
      messages[message] = true
      messages[#messages + 1] = message
    end
  end

  -- Says that the last ready job may go by this call: then the sequence starts over.
  function writes.end_sequence()
    may_end_sequence = true
  end

  local function need(command, key)
    local count = ARGUMENTS[command]
    local may
    if count == 1 then
      may = may_call(command, key, '0')
    elseif count == 2 then
      may = may_call(command, key, '0', '0')
    else
      may = may_call(command, key)
    end
    if not may then
      error(redis.error_reply('NOPERM the user may not call ' .. command .. ' on keys like ' .. key))
    end
  end

  local function check_type(command, key)
    local kind = byte(command, 1)
    if kind == 90 then -- Z
      call('ZCARD', key)
    elseif kind == 72 then -- H
      call('HGET', key, '')
    elseif kind == 83 and command ~= 'SET' then -- S
      call('SISMEMBER', key, '')
    elseif kind == 82 or kind == 76 then -- R, L
      call('LRANGE', key, '1', '0')
    end
    is_of_its_type[key] = true
  end

  -- The first command is left to the server: if it refuses that one, nothing is written yet.
  local function check()
    local first = fresh and #fresh > 1 and 'MSETNX'
    for n = 1, commands_count do
      local list = commands[n]
      if #list > 2 then
        local command, key = list[1], list[2]
        if not first then
          first = command
        else
          if command ~= first then
            need(command, key)
          end
          if not is_of_its_type[key] then
            check_type(command, key)
          end
        end
      end
    end
    local latest = first
    for n = 1, many_count do
      local command, key = many[n][1], many[n][2]
      if key then
        if first and command ~= latest then
          need(command, key)
        end
        first, latest = first or command, command
      end
    end
    if messages then
      need('PUBLISH', PREFIX .. 'wake')
    end
    if may_end_sequence then
      need('EXISTS', QUEUES)
      need('DEL', SEQUENCE)
    end
  end

  -- Calls what stands in a list, of which the first so many are needed in each call.
  local function call_list(list, head)
    local count = #list
    if count <= SLICE then
      if count > head then
        call(unpack(list))
      end
      return
    end
    for first = head + 1, count, SLICE do
      local last = min(first + SLICE - 1, count)
      if head == 1 then
        call(list[1], unpack(list, first, last))
      else
        call(list[1], list[2], unpack(list, first, last))
      end
    end
  end

  -- Writes it all. Says whether it did: it doesn't if one of the keys that have to be fresh is there.
  function writes.commit()
    check()
    if fresh and #fresh > 1 and call(unpack(fresh)) == 0 then
      return false
    end
    for n = 1, commands_count do
      call_list(commands[n], 2)
    end
    for n = 1, many_count do
      call_list(many[n], 1)
    end
    if may_end_sequence and call('EXISTS', QUEUES) == 0 then
      call('DEL', SEQUENCE)
    end
    if messages then
      for n = 1, #messages do
        call('PUBLISH', PREFIX .. 'wake', messages[n])
      end
    end
    return true
  end
end
