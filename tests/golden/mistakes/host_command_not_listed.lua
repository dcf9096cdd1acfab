return recipe(function(plan)
  host.run { command = { "git", "push" } }
end)
