return recipe(function(plan)
  local net = {}
  local name = net.outside.name
end)
