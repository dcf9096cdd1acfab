-- The prelude: makes the primitives global, runs hooks around them, and gives every script its environment.
--
-- Scripts of several authors share this machine: bottler's library and recipes, the user's recipe, a project's hooks.
-- No script can change what another one calls. Every script has its own environment with read-only globals and
-- libraries. Scripts cannot reach the original tables, nor the metatables of strings, recipes and handles. This file
-- has a separate environment that scripts cannot reach.
local core, globals = ...

local HOOK_LIMIT = "1m" -- time limit of one hook
local sets = {} -- the active hooks: the project's first, then those of the running recipes
local replacing = {} -- names whose replacement is running, so that it can create the original
local the_plan -- the plan of this launch, once it runs

-- The context table of one set of hooks; hooks of other sets do not see it.
local function a_bottle() return { id = core.bottle_id, plan = the_plan, sidecar = sidecar_start } end

-- Failures keep their fields through pcall and error; other values behave as in plain Lua.
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

-- A finalizer could run between any two instructions, outside all time limits.
globals.setmetatable = function(value, metatable)
  if type(metatable) == "table" and rawget(metatable, "__gc") ~= nil then
    plain.error("setmetatable: __gc is not there; write local x <close> = …, or defer", 2)
  end
  -- Report its errors at the caller's line.
  local ok, result = plain.pcall(plain.setmetatable, value, metatable)
  if not ok then plain.error(result, 2) end
  return result
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

-- Copies the hooks, so that later changes of the script's table have no effect.
local function in_force(hooks, project)
  local set = { project = project, bottle = a_bottle() }
  for when, hook in pairs(check_hooks(hooks)) do
    set[when] = hook
    if KINDS[when] then
      set[when] = {}
      for name, one in pairs(hook) do
        set[when][name] = one
      end
    end
  end
  return set
end

local function run_hook(hook, when, name, ...)
  core.note_hook(when, name, hook)
  return core.within("hook " .. when .. (name ~= "" and "." .. name or ""), HOOK_LIMIT, hook, ...)
end

-- The innermost recipe's hooks run first and the project's last, so that outer hooks decide.
local function run_hooks(when, name, ...)
  for i = #sets, 1, -1 do
    local set = sets[i][when]
    if set and set[name] then
      local arguments = table.pack(...)
      arguments[arguments.n + 1] = sets[i].bottle
      run_hook(set[name], when, name, table.unpack(arguments, 1, arguments.n + 1))
    end
  end
end

-- The outermost replacement of a name, or nil.
local function replacement(primitive, name, options)
  if replacing[name] then return nil end
  for i = 1, #sets do
    local hook = sets[i].replace and sets[i].replace[name]
    if hook then
      if sets[i].project then core.check_replace(primitive, "replace." .. name, name, rawget(options, "role")) end
      return hook, sets[i].bottle
    end
  end
end

local function create(primitive, make, name, options)
  local hook, bottle = replacement(primitive, name, options)
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

-- A creating primitive with its hooks: before.<name> may edit the options, replace.<name> creates the object itself,
-- after.<name> gets the handle.
local function hooked(primitive, fixed_name)
  local make = core[primitive]
  return function(options)
    local name = fixed_name or (type(options) == "table" and rawget(options, "name"))
    if type(name) ~= "string" or type(options) ~= "table" then
      local handle = make(options)
      return handle
    end
    local role = rawget(options, "role")
    run_hooks("before", name, options)
    if rawget(options, "role") ~= role then core.check_replace(primitive, "before." .. name, name, role or "") end
    local handle = create(primitive, make, name, options)
    run_hooks("after", name, handle)
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
  run_hooks("before", "provision", options)
  local path = core.provision(agent, options)
  run_hooks("after", "provision", agent)
  return path
end

-- Launches a nested bottle; the agent's name is the first argument, by default that of this launch.
globals.bottle = function(agent, options)
  local child = core.bottle(agent, options)
  return child
end

-- Runs a function with a time limit; returns its results or an error.
function deadline(limit, work, ...) return core.within("deadline", limit, work, ...) end

-- Turns a function (plan, hooks) into a recipe: other recipes can call it, and its hooks are active while it runs.
function recipe(launch)
  if type(launch) ~= "function" then fail("recipe: takes a function (plan, hooks), not a " .. type(launch)) end
  return setmetatable({}, {
    __metatable = false,
    __call = function(_, plan, hooks)
      sets[#sets + 1] = in_force(hooks or {})
      local _ <close> = setmetatable({}, { __close = function() sets[#sets] = nil end })
      local result = launch(plan, hooks)
      return result
    end,
  })
end

-- Starts what a script returned, a recipe or a plain function, with the project's hooks.
core.launch = function(launch, plan, hooks)
  the_plan = plan
  if hooks then sets[1] = in_force(hooks, true) end
  local result = launch(plan)
  return result
end

-- Runs on_failure or on_teardown of the project's hooks, if defined; `...` are arguments before the bottle.
core.ended = function(when, ...)
  local set = sets[1]
  local hook = set and set.project and set[when]
  if not hook then return end
  if select("#", ...) > 0 then
    run_hook(hook, when, "", (...), set.bottle)
  else
    run_hook(hook, when, "", set.bottle)
  end
end

-- All hooks of a set, as a list of { when, name, function }.
core.list_hooks = function(hooks)
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

-- Raises an error at the nearest line of a script; a C function has no line.
local function refuse_assignment(text)
  for level = 4, 8 do
    local _, placed = plain.pcall(plain.error, text, level)
    if placed ~= text then plain.error(placed, 0) end
  end
  plain.error(text, 0)
end

-- A read-only view of a library: assignments are errors.
local function sealed(name, library)
  return setmetatable({}, {
    __metatable = false,
    __index = library,
    __newindex = function(_, key)
      refuse_assignment("cannot assign " .. name .. "." .. tostring(key) .. ": it belongs to every script")
    end,
    __pairs = function()
      local key, value
      return function()
        key, value = next(library, key)
        return key, value
      end
    end,
  })
end

-- What `require` returns for bottler's own library.
core.seal = function(name, module)
  if type(module) == "table" and getmetatable(module) == nil then return sealed(name, module) end
  return module
end

-- String methods are looked up here by every script; the library that scripts name is another table.
local strings = getmetatable("")
strings.__index = {}
for name, method in pairs(string) do
  strings.__index[name] = method
end
strings.__metatable = false

-- The environment of one script. Its raw fields are its own, so rawset affects only this script.
core.environment = function()
  local visible = {}
  for name, value in pairs(globals) do
    visible[name] = type(value) == "table" and sealed(name, value) or value
  end
  setmetatable(visible, { __index = function(_, name) core.no_global(tostring(name)) end })
  return setmetatable({}, {
    __metatable = false,
    __index = visible,
    __newindex = function(_, name)
      local what = rawget(visible, name) == nil and "make a" or "assign the"
      plain.error("cannot " .. what .. " global " .. tostring(name) .. "; write local " .. tostring(name), 2)
    end,
  })
end
