-- A PostgreSQL and a Redis beside the agent, and everything that their handles can be asked for.
local launch = require "std.launch"
local sidecars = require "std.sidecars"
local IMAGE = "bottler-test:debian"

return recipe(function(plan)
  ---@type Served, Served
  local postgres, redis
  plan.image.source = IMAGE
  plan.agent.command = {
    "/bin/sh",
    "-c",
    [[psql "$DATABASE_URL" -At -c 'select 3 + 4' && redis-cli -u "$REDIS_URL" set key 'from redis' > /dev/null &&
      redis-cli -u "$REDIS_URL" get key]],
  }
  local agent = launch(plan, {
    before = {
      agent = function()
        postgres = sidecars.postgres { image = IMAGE }
        redis = sidecars.redis { image = IMAGE }
      end,
      provision = function(options) options.env = { DATABASE_URL = postgres.url, REDIS_URL = redis.url } end,
    },
  })

  local db = postgres.sidecar
  db:ready()
  local result = db:exec { command = { "pg_isready", "-h", "127.0.0.1" } }
  log("ready:", result.exit_code, (result.stdout:gsub("\n", "")))
  log("log has:", db:logs({ lines = 50 }):find("ready to accept connections", 1, true) ~= nil)
  local state = db:inspect()
  log("state", state.status, state.exit_code)
  db:copy_in { path = "/tmp/copied/file", content = "any\0bytes", mode = "0600" }
  local copied = db:copy_out { path = "/tmp/copied/file" }
  log("copied:", (copied:gsub("%z", "\\0")), #copied)
  db:pause()
  local paused = db:inspect().status
  db:unpause()
  -- The engine notes a pause by an event, which may come after the call that ended it.
  local status
  for _ = 1, 200 do
    status = db:inspect().status
    if status ~= "paused" then break end
  end
  log(paused .. ", then " .. status)

  -- The agent is done before its services go.
  agent:wait()
  redis.sidecar:stop { timeout = "1s" }
  log("stopped with", redis.sidecar:wait().exit_code)
  redis.sidecar:close()
  redis.sidecar:close()
  log("closed twice")
  return agent
end)
