@file:JvmName("RepeatOnLifecycleKt")

package androidx.lifecycle

import kotlinx.coroutines.CoroutineScope

suspend fun LifecycleOwner.repeatOnLifecycle(state: Lifecycle.State, block: suspend CoroutineScope.() -> Unit): Unit = TODO("compile-only")
