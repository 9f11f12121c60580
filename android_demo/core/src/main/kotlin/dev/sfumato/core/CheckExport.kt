/**
 * Look at the export in the app's assets before the app is built, with the code that reads it on the phone.
 *
 *     java -cp ... dev.sfumato.core.CheckExport app/src/main/assets/sfumato
 */
@file:JvmName("CheckExport")

package dev.sfumato.core

import java.io.File
import kotlin.system.exitProcess

/** Check the export in the folder that [arguments] name; ends with status 1 and one line where it cannot be used. */
public fun main(arguments: Array<String>) {
    val folder = File(arguments.single())
    try {
        val contract = Bundle.open { name -> File(folder, name).readBytes() }.contract
        val points = contract.points.joinToString { it.strength.toString() }
        val strengths = if (points.isEmpty()) "" else ", strengths $points"
        println("export ${contract.sha256.take(12)}: ${contract.height} x ${contract.width}, ${contract.keep.joinToString { it.name }}$strengths")
    } catch (error: SfumatoException) {
        System.err.println("sfumato: ${error.message}")
        exitProcess(1)
    }
}
