local launch = require "std.launch"
return recipe(function(plan)
  plan.provision.files = { { path = "notes.md", content = "x" } }
  local agent = launch(plan)
  return agent
end)
