"""The names that Bazel 4's own files load from rules_cc; nothing here compiles C++."""

cc_binary = native.cc_binary
cc_import = native.cc_import
cc_library = native.cc_library
cc_test = native.cc_test
cc_toolchain = native.cc_toolchain
cc_toolchain_suite = native.cc_toolchain_suite
cc_flags_supplier = None
cc_toolchain_alias = None
compiler_flag = None
