-- Sidecars for recipes. Those of the default launch take networks and the plan's section; the others are ordinary
-- images with default options, which the caller can override: `sidecars.redis { name = "cache" }`.
local sidecars = {}

---@class Served a sidecar, and the address at which the agent reaches it
---@field sidecar Sidecar
---@field url string|Secret

-- The only way out: passes what the plan allows.
function sidecars.egress(net, plan)
  local networks = { net.outside, net.inside }
  local egress = sidecar_start { name = "egress", role = "egress", network = networks, allow = plan.allow }
  return egress
end

-- The plan's routes at http://cred-proxy:9099/, each with a credential.
function sidecars.cred_proxy(net, egress)
  local proxy = sidecar_start { name = "cred-proxy", role = "cred-proxy", network = net.inside, egress = egress }
  return proxy
end

-- The plan's repositories: every push is inspected, and the agent has no key.
function sidecars.git_gate(net, egress)
  local gate = sidecar_start { name = "git-gate", role = "git-gate", network = net.inside, egress = egress }
  return gate
end

-- An MCP server at http://supervise:9098/mcp, by which the agent asks its operator. It has no network.
function sidecars.supervise()
  local supervise = sidecar_start { name = "supervise", role = "supervise" }
  return supervise
end

-- Merges the given options into defaults.
local function over(defaults, given)
  for name, value in pairs(given or {}) do
    defaults[name] = value
  end
  return defaults
end

---A PostgreSQL sidecar with a random password; its address is a secret. The image must start like the official one:
---with POSTGRES_PASSWORD, and with a user named postgres.
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

---A Redis sidecar without persistence, and its address.
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
