return recipe(function(plan)
  local net = network_create { name = "n" }
  fail("no database", { hint = "start one" })
end)
