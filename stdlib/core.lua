-- The prelude: makes the primitives global, runs hooks around them, and closes the globals.
local core, globals = ...

local hooks = {} -- those in force, the innermost recipe's last
local bottle = { id = core.bottle_id }

local function run_hooks(when, name, subject)
  for i = #hooks, 1, -1 do
    local set = hooks[i][when]
    if set and set[name] then set[name](subject, bottle) end
  end
end

-- A creating primitive with its hooks: before.<name> may edit the options, after.<name> gets the handle.
local function hooked(create, fixed_name)
  return function(options)
    local name = fixed_name or (type(options) == "table" and options.name)
    if name then run_hooks("before", name, options) end
    local handle = create(options)
    if name then run_hooks("after", name, handle) end
    return handle
  end
end

build_image = hooked(core.build_image, "image")
network_create = hooked(core.network_create)
sidecar_start = hooked(core.sidecar_start)
run_agent = hooked(core.run_agent, "agent")
step, log, fail, defer, secret, require = core.step, core.log, core.fail, core.defer, core.secret, core.require

function provision(agent, options)
  run_hooks("before", "provision", options)
  local path = core.provision(agent, options)
  run_hooks("after", "provision", agent)
  return path
end

-- Makes a recipe of a function (plan, hooks): callable from another recipe, its hooks in force while it runs.
function recipe(launch)
  if type(launch) ~= "function" then fail("recipe: takes a function (plan, hooks), not a " .. type(launch)) end
  return setmetatable({}, {
    __call = function(_, plan, own)
      hooks[#hooks + 1] = own or {}
      local _ <close> = setmetatable({}, { __close = function() hooks[#hooks] = nil end })
      local result = launch(plan, own)
      return result
    end,
  })
end

-- Starts what a script returned: a recipe, or a plain function.
function __launch(launch, plan)
  local result = launch(plan)
  return result
end

setmetatable(globals, {
  __metatable = false,
  __index = function(_, name) error("there is no global " .. tostring(name), 2) end,
  __newindex = function(_, name) error("cannot make a global " .. tostring(name) .. "; write local " .. tostring(name), 2) end,
})
