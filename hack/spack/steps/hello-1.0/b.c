#include "missing.h"
int b(void) { return 0 }
