-- What a job's runs spent together: five numbers, each as its length in a byte and then its bytes, the highest first,
-- and after them the 32 bytes of the revision that ran last. The numbers have 64 bits, of which Lua's are exact to 53,
-- so they are added in two halves.

local spending = {}

do
  local NUMBERS = '>Bc0Bc0Bc0Bc0Bc0'
  local REVISION_BYTES = 32
  local HALF_MAX = 2 ^ 32

  local function halves(bytes)
    return unpack_bytes('>I4I4', string.rep('\0', 8 - #bytes) .. bytes)
  end

  local function bytes_of(high, low)
    return (string.gsub(pack_bytes('>I4I4', high, low), '^%z+', ''))
  end

  -- Stays at the greatest number rather than leave the range.
  local function sum(a, b)
    local a_high, a_low = halves(a)
    local b_high, b_low = halves(b)
    local high, low = a_high + b_high, a_low + b_low
    if low >= HALF_MAX then
      high, low = high + 1, low - HALF_MAX
    end
    if high >= HALF_MAX then
      high, low = HALF_MAX - 1, HALF_MAX - 1
    end
    return bytes_of(high, low)
  end

  local function greater(a, b)
    local a_high, a_low = halves(a)
    local b_high, b_low = halves(b)
    if a_high > b_high or (a_high == b_high and a_low > b_low) then
      return a
    end
    return b
  end

  -- Fails if the bytes are none that this version writes.
  function spending.sum(before, ran)
    if not before or not ran then
      return ran or before
    end
    local fuel, peak, wall, cpu, calls = unpack_bytes(NUMBERS, before)
    local f, p, w, c, h = unpack_bytes(NUMBERS, ran)
    f, p, w, c, h = sum(fuel, f), greater(peak, p), sum(wall, w), sum(cpu, c), sum(calls, h)
    return pack_bytes(NUMBERS, #f, f, #p, p, #w, w, #c, c, #h, h) .. sub(ran, -REVISION_BYTES)
  end
end
