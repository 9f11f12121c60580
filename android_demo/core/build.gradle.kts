import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    alias(libs.plugins.kotlin.jvm)
    `java-test-fixtures`
}

java {
    sourceCompatibility = JavaVersion.VERSION_11
    targetCompatibility = JavaVersion.VERSION_11
}

kotlin {
    compilerOptions {
        jvmTarget = JvmTarget.JVM_11
        allWarningsAsErrors = true
    }
}

dependencies {
    testFixturesImplementation(libs.junit)
    testImplementation(libs.junit)
}

// The app reads its export with these very classes, so they can say before the build whether it is there and whole.
tasks.register<JavaExec>("checkExport") {
    description = "Refuses to build an app without a whole export in its assets."
    classpath = sourceSets.main.get().runtimeClasspath
    mainClass = "dev.sfumato.core.CheckExport"
    args(rootProject.layout.projectDirectory.dir("app/src/main/assets/sfumato").asFile.path)
}
