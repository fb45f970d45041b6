-- The account of single runs, for a batch that isn't recorded as it was sent.

-- Where an account counts runs of which settlements.
local PLACE_OF = { [SUCCEED] = 1, [RETRY] = 2, [BURY] = 3, [CANCEL_IT] = 4, [RELEASE] = 5 }

local function ends(what)
  local place = PLACE_OF[what]
  return string.rep('\0', 8 * place - 1) .. '\1' .. string.rep('\0', 8 * (ENDS - place))
end

-- What runs come to together, as `record_spent` takes it. Of each: its plugin, how it ended, and what it spent.
local function spent_by(runs)
  local spent = {}
  local places = {} -- by plugin: where its account is
  for _, run in ipairs(runs) do
    local plugin, what, numbers = unpack(run)
    local account, place = ends(what) .. numbers, places[plugin]
    if place then
      spent[place] = add_numbers(spent[place], account)
    else
      local n = #spent
      spent[n + 1], spent[n + 2], places[plugin] = plugin, account, n + 2
    end
  end
  return spent
end
