-- The default launch with PostgreSQL beside the agent. Its host name is `postgres`, and DATABASE_URL contains its
-- address. The database has no network: its port is relayed to the agent only.
--
--   bottler run shell --recipe with-postgres --set postgres_image=postgres:16
local launch = require "std.launch"
local sidecars = require "std.sidecars"

return recipe(function(plan)
  local url -- a secret: it can be formatted, but is never printed
  local agent = launch(plan, {
    before = {
      -- Created before the agent, so that it is ready before the agent's command.
      agent = function() url = sidecars.postgres({ image = plan.params.postgres_image }).url end,
      -- Passed to the agent's command in its environment; the engine's configuration does not contain it.
      provision = function(options)
        options.env = options.env or {}
        options.env.DATABASE_URL = url
      end,
    },
  })
  return agent
end)
