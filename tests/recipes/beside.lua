-- The default launch, with a server of the test's own that serves before the agent starts. The parameter `origin` is
-- the host's command that starts it.
local launch = require "std.launch"

return recipe(function(plan)
  return launch(plan, {
    before = {
      agent = function()
        local started = host.run { command = { plan.params.origin } }
        if started.exit_code ~= 0 then fail("the origin: " .. started.stdout .. started.stderr) end
      end,
    },
  })
end)
