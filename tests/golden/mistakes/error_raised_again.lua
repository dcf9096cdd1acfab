return recipe(function(plan)
  local ok, problem = pcall(network_create, { nam = "n" })
  error(problem)
end)
