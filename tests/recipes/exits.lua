-- The agent's command ends with a code of its own, and leaves an orphan behind.
local launch = require "std.launch"

return recipe(function(plan)
  plan.image.source = "bottler-test:busybox"
  plan.agent.command = { "/bin/sh", "-c", "(sleep 1000 &) ; echo to stdout; echo to stderr >&2; exit 7" }
  local agent = launch(plan)
  return agent
end)
