// EXPECT_ERROR(code, "text", statement): the statement throws bittern::Error with that code and a message that contains
// the text. Checking only the type would let an error about something else pass.
#pragma once

#include <bittern/error.h>
#include <gtest/gtest.h>

#include <string>

#define EXPECT_ERROR(expected_code, text, ...)                                                         \
  do {                                                                                                 \
    try {                                                                                              \
      __VA_ARGS__;                                                                                     \
      ADD_FAILURE() << "no error; expected one that says: " << (text);                                 \
    } catch (const ::bittern::Error& error_) {                                                         \
      EXPECT_EQ(::bittern::error_code_name(error_.code()), ::bittern::error_code_name(expected_code)); \
      EXPECT_NE(std::string(error_.what()).find(text), std::string::npos) << error_.what();            \
    }                                                                                                  \
  } while (false)
