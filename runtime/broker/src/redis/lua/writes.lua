-- What a call is going to write.
--
-- Redis takes nothing back of what a call wrote before an error. So functions decide everything first and gather it
-- here; then `writes.commit` makes sure that nothing is left which could be refused, and writes it all. What could be: a
-- command that the user may not call, and a key of another type. Memory and disks are looked at by the server itself,
-- before a call starts and not between its writes.

local writes = {}

do
  local may_call = redis.acl_check_cmd

  -- How many arguments follow the key, in a call that asks for permission; and the command that reads from a key of the
  -- type that the writing one needs.
  local ARGUMENTS = {
    DEL = 0, EXISTS = 0, EXPIRE = 1, HDEL = 1, HSET = 2, LTRIM = 2, MSET = 1, PUBLISH = 1, RPUSH = 1, SADD = 1, SET = 1,
    SREM = 1, UNLINK = 0, ZADD = 2, ZREM = 1, ZREMRANGEBYRANK = 2,
  }

  local strings -- keys and values by turns, or nothing
  local removed -- keys, or nothing
  local many -- MSET or UNLINK, and what it is called with, by turns
  local commands -- command, key and values by turns, in the order in which they are called
  local values_of -- by command and key, of those that were asked for so
  local is_of_its_type -- by key: whether a command of the function has told so
  local messages -- for the listeners, or nothing
  local may_end_sequence

  function writes.start()
    commands, many, is_of_its_type = {}, {}, {}
    strings, removed, values_of, messages, may_end_sequence = nil, nil, nil, nil, false
  end

  local function list_of_many(command)
    local values, n = {}, #many
    many[n + 1], many[n + 2] = command, values
    return values
  end

  -- Where keys and values are to be put that MSET writes.
  function writes.strings()
    strings = strings or list_of_many('MSET')
    return strings
  end

  -- The same for a caller alone, which so knows how many there are.
  function writes.own_strings()
    return list_of_many('MSET')
  end

  function writes.string(key, value)
    local all = writes.strings()
    local n = #all
    all[n + 1], all[n + 2] = key, value
  end

  -- Says that a key goes, whatever it holds.
  function writes.remove(key)
    removed = removed or list_of_many('UNLINK')
    removed[#removed + 1] = key
  end

  -- Where the values are to be put with which the command is called for the key. Nothing is called without any.
  function writes.list(command, key)
    local values, n = {}, #commands
    commands[n + 1], commands[n + 2], commands[n + 3] = command, key, values
    return values
  end

  -- The same, and for the same command and key the same ones again.
  function writes.values(command, key)
    local name = command .. key
    values_of = values_of or {}
    local values = values_of[name]
    if not values then
      values = writes.list(command, key)
      values_of[name] = values
    end
    return values
  end

  function writes.value(command, key, value)
    local values = writes.values(command, key)
    values[#values + 1] = value
  end

  function writes.pair(command, key, first, second)
    local values = writes.values(command, key)
    local n = #values
    values[n + 1], values[n + 2] = first, second
  end

  -- Says that a command has read this key as what it is written as.
  function writes.knows(key)
    is_of_its_type[key] = true
  end

  -- Tells the listeners: nothing if there is work, or the id of a leased job that somebody wants cancelled.
  function writes.wake(about)
    messages = messages or {}
    messages[#messages + 1] = about or ''
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
    if is_of_its_type[key] then
      return
    end
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
    local first
    for n = 1, #commands, 3 do
      if #commands[n + 2] > 0 then
        local command, key = commands[n], commands[n + 1]
        if first then
          if command ~= first then
            need(command, key)
          end
          check_type(command, key)
        else
          first = command
        end
      end
    end
    local latest = first
    for n = 1, #many, 2 do
      local command, values = many[n], many[n + 1]
      if #values > 0 then
        if first and command ~= latest then
          need(command, values[1])
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

  local function call_all()
    for n = 1, #commands, 3 do
      local command, key, values = commands[n], commands[n + 1], commands[n + 2]
      local count = #values
      for first = 1, count, SLICE do
        call(command, key, unpack(values, first, min(first + SLICE - 1, count)))
      end
    end
    for n = 1, #many, 2 do
      local command, values = many[n], many[n + 1]
      local count = #values
      for first = 1, count, SLICE do
        call(command, unpack(values, first, min(first + SLICE - 1, count)))
      end
    end
  end

  function writes.commit()
    check()
    call_all()
    if may_end_sequence and call('EXISTS', QUEUES) == 0 then
      call('DEL', SEQUENCE)
    end
    if messages then
      for n = 1, #messages do
        call('PUBLISH', PREFIX .. 'wake', messages[n])
      end
    end
  end
end
