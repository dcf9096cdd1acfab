-- The default launch with a PostgreSQL beside the agent, which finds it under the name `postgres` and its address in
-- DATABASE_URL. The database has no network at all: its port is relayed to the agent, and to nobody else.
--
--   bottler run shell --recipe with-postgres --set postgres_image=postgres:16
local launch = require "std.launch"
local sidecars = require "std.sidecars"

return recipe(function(plan)
  local url -- a secret: it formats, it never prints
  local agent = launch(plan, {
    before = {
      -- Made before the agent, so that it is up before the agent's command.
      agent = function() url = sidecars.postgres({ image = plan.params.postgres_image }).url end,
      -- The agent's command gets it in its environment; no configuration of the engine's has it.
      provision = function(options)
        options.env = options.env or {}
        options.env.DATABASE_URL = url
      end,
    },
  })
  return agent
end)
