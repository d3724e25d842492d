# Included at every project() when ROS 2 comes from Python wheels (-DCMAKE_PROJECT_INCLUDE=cmake/wheels.cmake).
# The exported targets of the wheels carry the include path of the machine that built them, which CMake refuses
# because it does not exist here. Once all packages are found, replace it by this machine's own Python headers.
function(mechanic_mend_wheel_targets)
  get_property(targets DIRECTORY "${CMAKE_SOURCE_DIR}" PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(directories MATCHES "/opt/python/")
      list(FILTER directories EXCLUDE REGEX "^/opt/python/")
      list(APPEND directories ${Python3_INCLUDE_DIRS})
      set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${directories}")
    endif()
  endforeach()
  # The virtual environment lies inside the source folder, which CMake refuses in an exported include path.
  get_property(targets DIRECTORY "${CMAKE_SOURCE_DIR}" PROPERTY BUILDSYSTEM_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(directories)
      list(TRANSFORM directories REPLACE "^(${CMAKE_SOURCE_DIR}/.*)$" "$<BUILD_INTERFACE:\\1>")
      set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${directories}")
    endif()
  endforeach()
endfunction()

cmake_language(DEFER DIRECTORY "${CMAKE_SOURCE_DIR}" CALL mechanic_mend_wheel_targets)
