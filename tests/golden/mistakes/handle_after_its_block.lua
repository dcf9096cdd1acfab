return recipe(function(plan)
  local kept
  do
    local net <close> = network_create { name = "n" }
    kept = net
  end
  kept:ready()
end)
