/* Compiles the file IMPL for float and for double.

   There REAL is the type, INTEGER a signed integer of its size, and FN(name) name_float or name_double. */
#define FOR_REALS_JOINED(a, b) a##b
#define FOR_REALS_JOIN(a, b) FOR_REALS_JOINED(a, b)

#define REAL float
#define INTEGER int32_t
#define FN(name) FOR_REALS_JOIN(name, _float)
#include IMPL
#undef REAL
#undef INTEGER
#undef FN

#define REAL double
#define INTEGER int64_t
#define FN(name) FOR_REALS_JOIN(name, _double)
#include IMPL
#undef REAL
#undef INTEGER
#undef FN

#undef IMPL
