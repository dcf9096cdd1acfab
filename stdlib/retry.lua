-- Retries a function that fails.
local core = ...

-- retry(times, work, options): returns the results of `work(n)`, or raises its last error. `options.pause` is the pause
-- before the second try, in seconds or as "2s"; it doubles with every try.
return function(times, work, options)
  local pause = options and options.pause or 0
  for try = 1, times do
    local results = table.pack(pcall(work, try))
    if results[1] then return table.unpack(results, 2, results.n) end
    if try == times then error(results[2], 0) end
    core.sleep(pause, try)
  end
  fail("retry: takes a number of tries from 1, not " .. tostring(times))
end
