-- A service with a secret, beside an agent that idles.
local launch = require "std.launch"

return recipe(function(plan)
  plan.image.source = "bottler-test:debian"
  plan.agent.command = { "/bin/sleep", "1000" }
  local agent = launch(plan, {
    before = {
      agent = function()
        sidecar_start {
          name = "db",
          image = "bottler-test:debian",
          command = { "/bin/sh", "-c", "redis-server --save '' --dir /tmp & exec sleep 1001" },
          env = { TOKEN = secret.format("%s", "s3cr3t") },
          ready = { exec = { "redis-cli", "ping" } },
          ports = { 6379 },
        }
      end,
    },
  })
  return agent
end)
