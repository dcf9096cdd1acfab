-- A launch whose script never ends, where no hook can stop it: inside a C function.
return recipe(function()
  volume_create { name = "data" }
  local net = network_create { name = "outside" }
  net:ready()
  log("begins")
  local _ = (""):rep(math.maxinteger)
end)
