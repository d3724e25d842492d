# Generates the interfaces of a stand-in; DEPENDENCIES as in rosidl_generate_interfaces. They serve Python alone, so
# nothing is generated for C++: that is half of the build.
macro(stand_in)
  find_package(ament_cmake REQUIRED)
  find_package(rosidl_default_generators REQUIRED)
  foreach(dependency ${ARGN})
    find_package(${dependency} REQUIRED)
  endforeach()
  list(FILTER AMENT_EXTENSIONS_rosidl_generate_idl_interfaces EXCLUDE REGEX "_cpp:")
  file(GLOB interfaces RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} CONFIGURE_DEPENDS msg/*.msg srv/*.srv action/*.action)
  rosidl_generate_interfaces(${PROJECT_NAME} ${interfaces} DEPENDENCIES ${ARGN})
  ament_package()
endmacro()
