-- The prelude: makes the primitives global, runs hooks around them, and closes the globals.
local core, globals = ...

local HOOK_LIMIT = "1m" -- how long one hook may take
local sets = {} -- the hooks in force: the project's first, then those of the recipes that are running
local replacing = {} -- names whose replacement is running, so that it may make the original
local bottle = { id = core.bottle_id } -- what hooks are given to know where they are

-- Failures keep their fields through pcall and error; anything else is as in plain Lua.
local plain = { pcall = pcall, xpcall = xpcall, error = error, assert = assert, setmetatable = setmetatable }

local function caught(ok, ...)
  if ok then return true, ... end
  return false, core.caught((...))
end

function pcall(...) return caught(plain.pcall(...)) end

function xpcall(work, handler, ...)
  return plain.xpcall(work, function(problem) return handler(core.caught(problem)) end, ...)
end

function error(problem, level)
  core.raise(problem)
  level = level or 1
  plain.error(problem, level > 0 and level + 1 or 0)
end

function assert(...)
  local ok, problem = ...
  if not ok then core.raise(problem) end
  return plain.assert(...)
end

-- A finalizer would run between any two instructions, and outside of every limit on time.
function setmetatable(value, metatable)
  if type(metatable) == "table" and rawget(metatable, "__gc") ~= nil then
    plain.error("setmetatable: __gc is not there; write local x <close> = …, or defer", 2)
  end
  return plain.setmetatable(value, metatable)
end

-- Hooks.
local KINDS = { before = true, after = true, replace = true }
local ENDS = { on_failure = true, on_teardown = true }

local function check_hooks(hooks)
  if type(hooks) ~= "table" then fail("hooks are a table, not a " .. type(hooks)) end
  for when, set in pairs(hooks) do
    if KINDS[when] then
      if type(set) ~= "table" then
        fail("hooks: " .. when .. " is a table of functions by name, not a " .. type(set))
      end
      for name, hook in pairs(set) do
        if type(hook) ~= "function" then
          fail("hooks: " .. when .. "." .. tostring(name) .. " is a function, not a " .. type(hook))
        end
      end
    elseif not ENDS[when] then
      fail("hooks: there is no " .. tostring(when) .. "; there are before, after, replace, on_failure, on_teardown")
    elseif type(set) ~= "function" then
      fail("hooks: " .. when .. " is a function, not a " .. type(set))
    end
  end
  return hooks
end

local function run_hook(hook, when, name, ...)
  core.note_hook(when, name, hook)
  return core.within("hook " .. when .. (name ~= "" and "." .. name or ""), HOOK_LIMIT, hook, ...)
end

-- The innermost recipe's hooks run first and the project's last: who is further out has the last word.
local function run_hooks(when, name, ...)
  for i = #sets, 1, -1 do
    local set = sets[i][when]
    if set and set[name] then run_hook(set[name], when, name, ...) end
  end
end

-- The replacement of a thing, the outermost one, or nil.
local function replacement(primitive, name, options)
  if replacing[name] then return nil end
  for i = 1, #sets do
    local hook = sets[i].replace and sets[i].replace[name]
    if hook then
      if sets[i].project then core.check_replace(primitive, name, options.role) end
      return hook
    end
  end
end

local function create(primitive, make, name, options)
  local hook = replacement(primitive, name, options)
  if not hook then
    local handle = make(options)
    return handle
  end
  replacing[name] = true
  local _ <close> = setmetatable({}, { __close = function() replacing[name] = nil end })
  local handle = run_hook(hook, "replace", name, options, bottle)
  core.check_handle(primitive, name, handle, hook)
  return handle
end

-- A creating primitive with its hooks: before.<name> may edit the options, replace.<name> makes the thing itself,
-- after.<name> gets the handle.
local function hooked(primitive, fixed_name)
  local make = core[primitive]
  return function(options)
    local name = fixed_name or (type(options) == "table" and options.name)
    if type(name) ~= "string" then
      local handle = make(options)
      return handle
    end
    run_hooks("before", name, options, bottle)
    local handle = create(primitive, make, name, options)
    run_hooks("after", name, handle, bottle)
    return handle
  end
end

build_image = hooked("build_image", "image")
network_create = hooked "network_create"
volume_create = hooked "volume_create"
sidecar_start = hooked "sidecar_start"
run_agent = hooked("run_agent", "agent")
step, log, progress, fail, defer = core.step, core.log, core.progress, core.fail, core.defer
prompt, confirm, secret, host, require = core.prompt, core.confirm, core.secret, core.host, core.require

function provision(agent, options)
  run_hooks("before", "provision", options, bottle)
  local path = core.provision(agent, options)
  run_hooks("after", "provision", agent, bottle)
  return path
end

-- A whole further bottle; the agent's name is the first argument, or that of this launch.
globals.bottle = function(agent, options)
  local child = core.bottle(agent, options)
  return child
end

-- Runs a function for a bounded time: its results, or an error.
function deadline(limit, work, ...) return core.within("deadline", limit, work, ...) end

bottle.sidecar = sidecar_start

-- Makes a recipe of a function (plan, hooks): callable from another recipe, its hooks in force while it runs.
function recipe(launch)
  if type(launch) ~= "function" then fail("recipe: takes a function (plan, hooks), not a " .. type(launch)) end
  return setmetatable({}, {
    __call = function(_, plan, hooks)
      sets[#sets + 1] = check_hooks(hooks or {})
      local _ <close> = setmetatable({}, { __close = function() sets[#sets] = nil end })
      local result = launch(plan, hooks)
      return result
    end,
  })
end

-- Starts what a script returned, a recipe or a plain function, with the project's hooks around it.
function __launch(launch, plan, hooks)
  bottle.plan = plan
  if hooks then
    local project = { project = true }
    for when, set in pairs(check_hooks(hooks)) do
      project[when] = set
    end
    sets[1] = project
  end
  local result = launch(plan)
  return result
end

-- Runs on_failure or on_teardown of the project's hooks, where there is one.
function __ended(when, ...)
  local hook = sets[1] and sets[1].project and sets[1][when]
  if hook then run_hook(hook, when, "", ...) end
end

-- All hooks of a set, as a list of { when, name, function }.
function __list_hooks(hooks)
  local found = {}
  for when, set in pairs(check_hooks(hooks)) do
    if type(set) == "function" then
      found[#found + 1] = { when, "", set }
    else
      for name, hook in pairs(set) do
        found[#found + 1] = { when, name, hook }
      end
    end
  end
  table.sort(found, function(a, b) return a[1] .. "." .. a[2] < b[1] .. "." .. b[2] end)
  return found
end

__bottle = bottle

setmetatable(globals, {
  __metatable = false,
  __index = function(_, name) core.no_global(tostring(name)) end,
  __newindex = function(_, name)
    plain.error("cannot make a global " .. tostring(name) .. "; write local " .. tostring(name), 2)
  end,
})
