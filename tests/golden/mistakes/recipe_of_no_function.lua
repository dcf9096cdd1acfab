local make = recipe { name = "x" }
return make
