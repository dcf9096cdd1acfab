-- Everything is made, and then the script fails.
local launch = require "std.launch"

return recipe(function(plan)
  local agent = launch(plan)
  agent:ready()
  defer(function() log("deferred") end)
  fail("on purpose", { hint = "do not do this" })
end)
