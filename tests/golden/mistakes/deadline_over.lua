local retry = require "std.retry"
return recipe(function(plan)
  deadline(0.05, function()
    retry(9, function() fail("never") end, { pause = "1s" })
  end)
end)
