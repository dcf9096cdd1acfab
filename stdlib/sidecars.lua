-- Sidecars that recipes share. Those of the default launch take networks and the plan's section; the others are
-- ordinary images with sensible options, any of which can be given: `sidecars.redis { name = "cache" }`.
local sidecars = {}

---@class Served a sidecar, and the address at which the agent reaches it
---@field sidecar Sidecar
---@field url string|Secret

-- The only way out: what the plan allows, and nothing else.
function sidecars.egress(net, plan)
  local networks = { net.outside, net.inside }
  local egress = sidecar_start { name = "egress", role = "egress", network = networks, allow = plan.allow }
  return egress
end

-- The options that were given, over these.
local function over(defaults, given)
  for name, value in pairs(given or {}) do
    defaults[name] = value
  end
  return defaults
end

---A PostgreSQL with a password of its own: the sidecar, and its address as a secret. Its image starts as the official
---one does, with POSTGRES_PASSWORD, as the user postgres, which every such image has.
---@param given table? options of sidecar_start
---@return Served
function sidecars.postgres(given)
  local password = secret.random(24)
  local data = volume_create { name = (given and given.name or "postgres") .. "-data" }
  local options = over({
    name = "postgres",
    image = "postgres:16",
    user = "postgres",
    env = { POSTGRES_PASSWORD = password, PGDATA = "/var/lib/postgresql/data/pgdata" },
    volumes = { ["/var/lib/postgresql/data"] = data },
    ready = { tcp = 5432 },
  }, given)
  local sidecar = sidecar_start(options)
  local url = secret.format("postgres://postgres:%s@%s:5432/postgres", password, options.name)
  return { sidecar = sidecar, url = url }
end

---A Redis that keeps nothing: the sidecar, and its address.
---@param given table? options of sidecar_start
---@return Served
function sidecars.redis(given)
  local options = over({
    name = "redis",
    image = "redis:7",
    user = "redis",
    command = { "redis-server", "--save", "", "--dir", "/tmp" },
    ready = { tcp = 6379 },
  }, given)
  local sidecar = sidecar_start(options)
  return { sidecar = sidecar, url = "redis://" .. options.name .. ":6379" }
end

return sidecars
