#include <stdio.h>
int main(void) { puts("dev CHANGED"); }
